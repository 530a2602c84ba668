"""Holds whose time is over are let go: on time, and each by one worker."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from reservations.rounds import Tell, run_rounds, tell_nobody
from reservations.trying import Conflicted, Tally, keep_trying
from sql.queries import load_queries

log = structlog.stdlib.get_logger(__name__)

#: Holds that end in one transaction: while it lasts, their rows of stock are locked.
PORTION = 50
#: Seconds between two looks at what is due. A hold may be made that is due before all others.
INTERVAL_SECONDS = 0.25
#: Holds that a worker takes before it looks at the clock again.
LIMIT = 500
#: Seconds to go on against others for one portion.
_PATIENCE_SECONDS = 5.0
#: How it is attributed: nobody asked for it.
CALLER = "expiry"

_QUERIES = load_queries()
_DUE = _QUERIES["expiry_due"]
_LOCK_STOCK = _QUERIES["closing_lock_stock"]
_CLOSE = _QUERIES["reservation_close"]


async def expire_due(pool: AsyncConnectionPool, limit: int = LIMIT) -> int:
    """Let go up to `limit` holds that are due; how many they were.

    Raises:
        psycopg.Error: Postgres takes no work; what was let go before stays so.
    """
    tally = Tally()
    ended = 0
    while ended < limit:
        rows = min(PORTION, limit - ended)

        async def portion(connection: AsyncConnection, rows: int = rows) -> int:
            return await _expire(connection, rows)

        try:
            taken = await keep_trying(pool, portion, _PATIENCE_SECONDS, tally)
        except Conflicted as conflict:
            log.warning("rows of holds that are due are locked by others", error=str(conflict))
            break
        ended += taken
        if taken < rows:
            break
    return ended


async def _expire(connection: AsyncConnection, rows: int) -> int:
    """One transaction in two round trips, however many holds end in it."""
    async with connection.transaction():
        due = await connection.execute(_DUE, {"rows": rows})
        ids = [row[0] for row in await due.fetchall()]
        if not ids:
            return 0
        async with connection.pipeline():
            await connection.execute(_LOCK_STOCK, {"reservations": ids})
            for reservation in ids:
                await connection.execute(
                    _CLOSE,
                    {
                        "reservation": reservation,
                        "status": "expired",
                        "reason": "expire",
                        "caller": CALLER,
                        "key": None,
                        "request": b"",
                    },
                )
        return len(ids)


async def run_expiry(
    expire: Callable[[int], Awaitable[int]],
    stop: asyncio.Event,
    *,
    interval_seconds: float = INTERVAL_SECONDS,
    on_expired: Callable[[int], None] = lambda _: None,
    tell: Tell = tell_nobody,
) -> None:
    """Let go what is due until `stop` is set; any number of these may run.

    An outage is waited for.

    Args:
        expire: `Reservations.expire_due`, or that of `FlashSales`.
        stop: ends it, after what is in hand.
        interval_seconds: between two looks, while nothing is due.
        on_expired: is told how many holds have ended, each time that some have.
        tell: is told of each look's outcome.
    """

    async def look() -> float:
        ended = await expire(LIMIT)
        if ended:
            on_expired(ended)
        return interval_seconds if ended < LIMIT else 0.0

    await run_rounds("expiry", look, stop, tell=tell)
