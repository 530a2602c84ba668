"""How late holds end that are due: many within a minute, and as many at one moment."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psycopg
import uvloop

from bench.figures import Figure
from reservations.expiry import run_expiry
from reservations.pool import open_pool
from reservations.service import Reservations
from sql.queries import load_queries

_QUERIES = load_queries()
_HOLD, _OVERDUE, _LATENESS = (_QUERIES[f"bench_{name}"] for name in ("hold", "overdue", "lateness"))
#: A hold that is due ends within so long, in milliseconds.
_LATEST_MS = 1_000
#: Seconds until the first one is due, so that all have been made by then.
_LEAD_SECONDS = 5.0
#: Seconds between two looks of the one who watches from outside.
_LOOK_SECONDS = 0.05
#: Connections of the worker, and seconds that it gets beyond the last one's time.
_CONNECTIONS, _PATIENCE = 4, 120.0


@dataclass(frozen=True, slots=True)
class Due:
    """So many holds, due one after the other within so many seconds; 0 is all at once."""

    holds: int = 10_000
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class _Ended:
    """Milliseconds by which they were late, by their own rows and to another session."""

    p99: float
    longest: float
    seen: float
    #: From the first one's time until the last one had ended.
    seconds: float


def expiry_figures(
    conninfo: str, due: Due, skus: Sequence[str], warehouse: str, say: Callable[[str], None]
) -> Iterator[Figure]:
    """Measure both, with one worker; the holds are spread over the SKUs.

    Raises:
        Outage: Postgres does not answer.
        TimeoutError: they do not end.
    """
    say(f"{due.holds:,} holds due within {due.seconds:g} s")
    ended = _ended(conninfo, due, skus, warehouse)
    scenario = f"{due.holds:,} holds due within {due.seconds:g} s"
    yield Figure(scenario, "late, p99", ended.p99, "ms")
    yield Figure(scenario, "late, longest", ended.longest, "ms", at_most=_LATEST_MS)
    yield Figure(scenario, "late, longest seen", ended.seen, "ms", at_most=_LATEST_MS)
    say(f"{due.holds:,} holds due at once")
    ended = _ended(conninfo, Due(due.holds, 0.0), skus, warehouse)
    yield Figure(f"{due.holds:,} holds due at once", "ended", due.holds / ended.seconds, "holds/s")


def _ended(conninfo: str, due: Due, skus: Sequence[str], warehouse: str) -> _Ended:
    reference = f"BENCH-DUE-{due.seconds:g}"
    made = {
        "holds": due.holds,
        "seconds": due.seconds,
        "lead": _LEAD_SECONDS,
        "skus": list(skus),
        "warehouse": warehouse,
        "reference": reference,
    }
    with psycopg.connect(conninfo) as connection:
        connection.execute(_HOLD, made)
    first = time.monotonic() + _LEAD_SECONDS
    seen = uvloop.run(_end_all(conninfo, due))
    seconds = time.monotonic() - first
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(_LATENESS, {"reference": reference}).fetchone()
    assert row is not None
    ended, p99, longest = row
    assert ended == due.holds, f"{ended} of {due.holds} holds have ended"
    return _Ended(p99, longest, seen, seconds)


async def _end_all(conninfo: str, due: Due) -> float:
    """End them as the process `reservations` does; the longest that one was seen late, in ms."""
    stop = asyncio.Event()
    left = due.holds

    def count(ended: int) -> None:
        nonlocal left
        left -= ended
        if left <= 0:
            stop.set()

    async with (
        asyncio.timeout(_LEAD_SECONDS + due.seconds + _PATIENCE),
        open_pool(conninfo, size=_CONNECTIONS, name="stockwire-bench") as pool,
        asyncio.TaskGroup() as tasks,
    ):
        watching = tasks.create_task(_watch(conninfo, stop))
        await run_expiry(Reservations(pool).expire_due, stop, on_expired=count)
    return watching.result()


async def _watch(conninfo: str, stop: asyncio.Event) -> float:
    """Look again and again at what is due and has not ended, for another session."""
    latest = 0.0
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        while not stop.is_set():
            row = await (await connection.execute(_OVERDUE)).fetchone()
            assert row is not None
            latest = max(latest, row[0])
            try:
                await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
            except TimeoutError:
                continue
    return latest
