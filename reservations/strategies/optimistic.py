"""Look, choose, and take if nothing has changed meanwhile: no lock is held between the two.

Who is overtaken each time until the patience is over, locks the rows at last: large baskets and
slow callers would otherwise be refused as CONFLICT while there are units for them.
"""

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from reservations.basket import Granted, Reason, Refused
from reservations.sourcing import Missing
from reservations.strategies.pessimistic import take_under_locks
from reservations.strategies.taker import Locking, Order
from reservations.strategies.taking import Attempt
from reservations.trying import Conflicted, keep_trying


async def take_optimistically(pool: AsyncConnectionPool, order: Order) -> Granted | Refused:
    """See `Taker`. Two round trips an attempt, each a transaction of its own.

    CONFLICT means that a row was locked for the whole patience, not that others were faster.
    """
    attempt = Attempt(order)

    async def once(connection: AsyncConnection) -> Granted | Refused:
        seen = await attempt.look(connection)
        if isinstance(seen, Granted | Refused):
            return seen
        parts = attempt.choose(seen)
        if isinstance(parts, Missing):
            return await attempt.refuse(connection, parts)
        return await attempt.take(connection, parts)

    async def under_locks(connection: AsyncConnection) -> Granted | Refused:
        return await take_under_locks(connection, attempt, Locking.TIMEOUT)

    try:
        return await keep_trying(
            pool, once, order.patience_seconds, order.tally, at_last=under_locks
        )
    except Conflicted:
        return Refused(Reason.CONFLICT)
