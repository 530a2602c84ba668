"""Lock, look, choose and take: who comes later waits, gives way or goes elsewhere."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from reservations.basket import Granted, Reason, Refused
from reservations.pool import milliseconds
from reservations.sourcing import Missing, Part
from reservations.strategies.taker import Locking, Order
from reservations.strategies.taking import Attempt
from reservations.trying import Conflicted, keep_trying
from sql.queries import load_queries

_QUERIES = load_queries()
_VIEW = _QUERIES["reserve_view"]
_PATIENCE = _QUERIES["reserve_patience"]
#: Each of them locks the rows in the order of SKU and warehouse: nobody waits in a circle.
_LOCK: Mapping[Locking, LiteralString] = MappingProxyType(
    {
        Locking.TIMEOUT: _QUERIES["reserve_lock"],
        Locking.NOWAIT: _QUERIES["reserve_lock_nowait"],
        Locking.SKIP_LOCKED: _QUERIES["reserve_lock_skip_locked"],
    }
)


async def take_pessimistically(pool: AsyncConnectionPool, order: Order) -> Granted | Refused:
    """See `Taker`."""
    attempt = Attempt(order)

    async def once(connection: AsyncConnection) -> Granted | Refused:
        return await take_under_locks(connection, attempt, order.locking)

    try:
        return await keep_trying(pool, once, order.patience_seconds, order.tally)
    except Conflicted:
        return Refused(Reason.CONFLICT)


async def take_under_locks(
    connection: AsyncConnection, attempt: Attempt, locking: Locking
) -> Granted | Refused:
    """One attempt in two round trips; the locks are held from the first to the second.

    Raises:
        Conflicted: SKIP LOCKED, and what others have locked is needed; nothing was done.
        psycopg.errors.LockNotAvailable: a row was locked for too long; nothing was done.
        psycopg.errors.UniqueViolation: the key has an answer meanwhile; nothing was done.
    """
    async with connection.pipeline(), connection.transaction():
        await connection.execute(_PATIENCE, {"lock": milliseconds(attempt.order.patience_seconds)})
        view = await connection.execute(_VIEW, attempt.parameters)
        locked = await connection.execute(_LOCK[locking], attempt.parameters)
        seen = attempt.seen(await view.fetchall())
        if isinstance(seen, Granted | Refused):
            return seen
        parts: list[Part] | Missing | None = attempt.choose(await locked.fetchall())
        if isinstance(parts, Missing) and locking is Locking.SKIP_LOCKED:
            # How many there are, is not what others have left of them.
            whole = attempt.choose(seen)
            parts = whole if isinstance(whole, Missing) else None
        if isinstance(parts, Missing):
            return await attempt.refuse(connection, parts)
        if parts is not None:
            return await attempt.take(connection, parts)
    # Behind the transaction: psycopg prepares all statements anew after a rollback.
    raise Conflicted("what others have locked is needed")
