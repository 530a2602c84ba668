"""Connections to Postgres: so many and no more, none of them without timeouts."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from psycopg import AsyncConnection, InterfaceError, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from inventory.errors import Outage
from sql.queries import load_queries

#: Connections of a process, unless said; see docs/benchmarks.md for what more of them bring.
POOL_SIZE = 8
#: Seconds a caller waits for a connection before it is told that there is none.
WAIT_SECONDS = 30.0
#: Seconds a statement may take, and wait for one lock; a transaction may idle as long as the first.
STATEMENT_SECONDS = 10.0
LOCK_SECONDS = 5.0
#: Seconds after which the pool gives up to replace a lost connection by itself. Who asks for one
#: then has it tried at once; the pool's own attempts are ever further apart, for 5 minutes.
_REPLACE_SECONDS = 1.0

_SESSION = load_queries()["reservation_session"]


@asynccontextmanager
async def open_pool(
    conninfo: str,
    *,
    size: int = POOL_SIZE,
    wait_seconds: float = WAIT_SECONDS,
    statement_seconds: float = STATEMENT_SECONDS,
    lock_seconds: float = LOCK_SECONDS,
    most_waiting: int = 0,
    name: str = "stockwire-reservations",
    read_only: bool = False,
) -> AsyncIterator[AsyncConnectionPool]:
    """Connections that commit each statement and are all open when the block begins.

    Args:
        conninfo: libpq URL or keywords of a role that may change stock.
        size: how many.
        wait_seconds: how long a caller waits for a free one.
        statement_seconds: the longest that a statement may take.
        lock_seconds: the longest that it may wait for a lock.
        most_waiting: callers that may wait for one at a time; 0 for any number of them.
        name: how the sessions name themselves to Postgres.
        read_only: Postgres refuses what would write.

    Raises:
        Outage: Postgres does not answer within `wait_seconds`.
    """

    async def configure(connection: AsyncConnection) -> None:
        await connection.execute(
            _SESSION,
            {
                "name": name,
                "statement": milliseconds(statement_seconds),
                "lock": milliseconds(lock_seconds),
                "read_only": read_only,
            },
        )

    pool = AsyncConnectionPool(
        conninfo,
        min_size=size,
        max_size=size,
        timeout=wait_seconds,
        max_waiting=most_waiting,
        reconnect_timeout=_REPLACE_SECONDS,
        name=name,
        open=False,
        configure=configure,
        kwargs={"autocommit": True, "prepare_threshold": 0},
    )
    try:
        with outages():
            await pool.open(wait=True, timeout=wait_seconds)
        yield pool
    finally:
        await pool.close()


@contextmanager
def outages() -> Iterator[None]:
    """Say in one clear sentence that Postgres takes no work.

    What was under way may have been committed all the same: ask again under the same key.

    Raises:
        Outage: instead of psycopg's errors of connections, timeouts and the pool.
    """
    try:
        yield
    except (PoolTimeout, TooManyRequests) as exc:
        raise Outage(f"No connection to Postgres is free: {exc}.") from exc
    except (OperationalError, InterfaceError, PoolClosed) as exc:
        raise Outage(f"Postgres does not take the work: {str(exc).strip()}.") from exc


def milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
