"""Look, choose, and take if nothing has changed meanwhile: no lock is held between the two."""

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from reservations.basket import Granted, Reason, Refused
from reservations.sourcing import Missing
from reservations.strategies.taker import Order
from reservations.strategies.taking import Attempt
from reservations.trying import Conflicted, keep_trying


async def take_optimistically(pool: AsyncConnectionPool, order: Order) -> Granted | Refused:
    """See `Taker`. Two round trips an attempt, each a transaction of its own."""
    attempt = Attempt(order)

    async def once(connection: AsyncConnection) -> Granted | Refused:
        seen = await attempt.look(connection)
        if isinstance(seen, Granted | Refused):
            return seen
        parts = attempt.choose(seen)
        if isinstance(parts, Missing):
            return await attempt.refuse(connection, parts)
        return await attempt.take(connection, parts)

    try:
        return await keep_trying(pool, once, order.patience_seconds, order.tally)
    except Conflicted:
        return Refused(Reason.CONFLICT)
