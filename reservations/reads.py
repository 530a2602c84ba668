"""Reads that may be stale: from a replica, where one is set.

Writes go to the primary, and so does who has to read what was just written.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from inventory.errors import Outage
from reservations.pool import WAIT_SECONDS, open_pool, outages
from sql.queries import load_queries

_T = TypeVar("_T")

#: Seconds that a replica gets to answer: the primary can say the same.
_REPLICA_SECONDS = 2.0
_NAME = "stockwire-reads"

_QUERIES = load_queries()
_SHOW = _QUERIES["show_reservation"]
_SHOW_LINES = _QUERIES["show_reservation_lines"]


async def read(
    work: Callable[[AsyncConnectionPool], Awaitable[_T | None]],
    primary: str,
    replica: str | None = None,
    *,
    wait_seconds: float = WAIT_SECONDS,
    say: Callable[[str], None] = lambda _: None,
) -> _T | None:
    """What `work` finds on the replica; on the primary if there is none, or it finds nothing.

    What was made just now may not have reached the replica; what was changed just now is read there
    as it was. Nothing can be written on the connections that `work` is given.

    Args:
        work: reads on one connection; None where what it looks for is not there.
        primary: where the writes go, as libpq takes it.
        replica: the same of a server that follows.
        wait_seconds: how long the primary has to answer.
        say: is told in a sentence that the replica is left out.

    Raises:
        Outage: Postgres does not answer.
    """
    if replica is not None:
        try:
            async with open_pool(
                replica, size=1, wait_seconds=_REPLICA_SECONDS, name=_NAME, read_only=True
            ) as pool:
                found = await work(pool)
            if found is not None:
                return found
        except Outage as outage:
            say(
                "The replica of STOCKWIRE_REPLICA_DSN is left out, the primary is asked: "
                f"{' '.join(str(outage).split())}"
            )
    async with open_pool(
        primary, size=1, wait_seconds=wait_seconds, name=_NAME, read_only=True
    ) as pool:
        return await work(pool)


async def find_reservation(pool: AsyncConnectionPool, reservation: UUID) -> dict[str, Any] | None:
    """The columns of a reservation, and its `lines`; None if there is none.

    Raises:
        Outage: Postgres takes no work.
    """
    wanted = {"reservation": reservation}
    with outages():
        async with pool.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            found = await (await cursor.execute(_SHOW, wanted)).fetchone()
            if found is None:
                return None
            # They are never changed: no need to read both at one moment.
            lines = await (await cursor.execute(_SHOW_LINES, wanted)).fetchall()
    return found | {"lines": lines}
