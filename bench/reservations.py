"""Reservations per second, by strategy: many SKUs, and one that everybody wants.

Beside pgbench, which runs the very statements of `optimistic` on the same Postgres in the same run.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from random import Random
from statistics import fmean
from types import MappingProxyType
from typing import TypeAlias
from uuid import uuid4

import psycopg
import uvloop
from psycopg_pool import AsyncConnectionPool

from bench.expiry import Due, expiry_figures
from bench.figures import Figure
from bench.latencies import Latencies, LatencySummary
from bench.pgbench import Reference, as_script, run_pgbench
from reservations.basket import Granted, Line, Reason, Refused, Reserve, Strategy
from reservations.flash.guard import FlashGuard
from reservations.pool import open_pool
from reservations.service import Reservations
from simulate.flash import selling
from simulate.item import Item
from sql.queries import load_queries

_QUERIES = load_queries()
_CALLER = "bench"
_WAREHOUSE = "BENCH"
#: Never sold out, and with room to add to.
_UNITS = 1_000_000_000
_FLASH_UNITS = 10_000_000
#: Of what pgbench reaches with the same statements, and of what `pessimistic` reaches.
_SHARE_OF_PGBENCH, _TIMES_PESSIMISTIC = 60, 5
_WARM_UP = 1.0
_WAIT_SECONDS = 120.0

_Ask: TypeAlias = Callable[[Reserve], Awaitable[Granted | Refused]]


@dataclass(frozen=True, slots=True)
class Spread:
    """What is asked for: one unit of one of so many SKUs, all alike; 1 is a hot one."""

    skus: int

    @property
    def name(self) -> str:
        """The scenario's name."""
        return "one hot SKU" if self.skus == 1 else f"{self.skus:,} SKUs"

    def sku(self, number: int) -> str:
        """The name of the n-th SKU, from 1."""
        return f"BENCH-{self.skus}-{number:05}"

    def all_skus(self) -> list[str]:
        """The names of all of them."""
        return [self.sku(number) for number in range(1, self.skus + 1)]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        pool: connections to Postgres, of ours and of pgbench alike.
        other_pools: that the strategies of Postgres are measured with as well.
        clients: callers of ours, each of whom asks again when it is answered.
        seconds: of each measurement, after a second that does not count.
        skus: that the spread load is spread over.
        due: the holds that end afterwards.
    """

    pool: int = 8
    other_pools: tuple[int, ...] = (2, 4, 16)
    clients: int = 32
    seconds: float = 10.0
    skus: int = 5_000
    due: Due = field(default_factory=Due)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one strategy reached."""

    granted: int
    conflicts: int
    seconds: float
    latency: LatencySummary

    @property
    def per_second(self) -> float:
        """Grants in a second."""
        return self.granted / self.seconds


@asynccontextmanager
async def _postgres(
    strategy: Strategy, pool: AsyncConnectionPool, _redis_url: str, _spread: Spread
) -> AsyncIterator[_Ask]:
    reservations = Reservations(pool)
    yield lambda request: reservations.reserve(request, strategy)


@asynccontextmanager
async def _redis(
    _: Strategy, pool: AsyncConnectionPool, redis_url: str, spread: Spread
) -> AsyncIterator[_Ask]:
    """Through the guard, while a worker settles in the same process."""
    item = Item(spread.sku(1), _CALLER, _WAREHOUSE)
    async with selling(pool, redis_url, item, _FLASH_UNITS) as sales:
        yield FlashGuard(sales.reserve_all).reserve


_Opener: TypeAlias = Callable[
    [Strategy, AsyncConnectionPool, str, Spread], AbstractAsyncContextManager[_Ask]
]
#: By strategy; a flash sale is of one SKU.
_OPENERS: Mapping[Strategy, _Opener] = MappingProxyType(
    {
        Strategy.OPTIMISTIC: _postgres,
        Strategy.PESSIMISTIC: _postgres,
        Strategy.REDIS: _redis,
    }
)


def reservation_figures(
    conninfo: str, redis_url: str, sizes: Sizes, say: Callable[[str], None]
) -> Iterator[Figure]:
    """Measure all of it, on a database with nothing else to do.

    Raises:
        Outage: a server does not answer.
    """
    many, hot = Spread(sizes.skus), Spread(1)
    for spread in (many, hot):
        _seed(conninfo, spread)
    # Before and after what it is the measure of: a machine is not always as quick.
    pgbench = [_pgbench(conninfo, many, sizes, say)]
    reached: dict[tuple[Spread, Strategy], Measured] = {}
    for size in (sizes.pool, *sizes.other_pools):
        at = f"pool of {size}, {sizes.clients} clients"
        for spread, strategy in product((many, hot), _OPENERS):
            # Of a flash sale, Postgres is not in the way of the buyers.
            if strategy is Strategy.REDIS and (spread is not hot or size != sizes.pool):
                continue
            say(f"{strategy}, {spread.name}, {at}")
            measured = uvloop.run(_measure(conninfo, redis_url, strategy, spread, sizes, size))
            yield from _figures(f"{spread.name}, {at}", strategy, measured)
            reached.setdefault((spread, strategy), measured)
            if len(pgbench) == 1:
                pgbench.append(_pgbench(conninfo, many, sizes, say))
    for when, reference in zip(("before", "after"), pgbench, strict=True):
        yield from _reference_figures(f"{many.name}, pool of {sizes.pool}, {when}", reference)
    at = f"pool of {sizes.pool}, {sizes.clients} clients"
    share = 100 * reached[many, Strategy.OPTIMISTIC].per_second
    share /= fmean(reference.per_second for reference in pgbench)
    yield Figure(
        f"{many.name}, {at}", "optimistic, of pgbench", share, "%", at_least=_SHARE_OF_PGBENCH
    )
    times = reached[hot, Strategy.REDIS].per_second / reached[hot, Strategy.PESSIMISTIC].per_second
    yield Figure(
        f"{hot.name}, {at}", "redis, times pessimistic", times, "×", at_least=_TIMES_PESSIMISTIC
    )
    yield from expiry_figures(conninfo, sizes.due, many.all_skus(), _WAREHOUSE, say)
    _check(conninfo)


def script(spread: Spread) -> str:
    """The two statements of `optimistic`, as pgbench runs them: a look, and the taking.

    Between the two pgbench keeps the row's warehouse and version, as our client does.
    """
    sku = f"'BENCH-{spread.skus}-' || lpad((:number)::text, 5, '0')"
    values = {
        "caller": f"'{_CALLER}'::text",
        "key": ":id::text",
        "reference": ":id::text",
        "reservation": "lpad(to_hex(:id::bigint), 32, '0')::uuid",
        "request": "'0123456789abcdef0123456789abcdef'::bytea",
        "strategy": f"'{Strategy.OPTIMISTIC.value}'::text",
        "hold_seconds": "900",
        "skus": f"ARRAY[{sku}]",
        "quantities": "ARRAY[1]",
    }
    look = as_script(_QUERIES["reserve_view"], values | {"warehouses": "ARRAY[]::text[]"})
    take = as_script(
        _QUERIES["reserve_take"],
        values | {"warehouses": "ARRAY[:'warehouse']", "versions": "ARRAY[:version::bigint]"},
    ).replace(":'warehouse'", ":warehouse::text")
    return (
        f"\\set number random(1, {spread.skus})\n"
        "\\set id random(1, 9000000000000000000)\n"
        "SELECT warehouse, version FROM (\n"
        f"{look}\n) AS seen (request, answer, sku, warehouse, free, version)\n\\gset\n"
        f"{take};\n"
    )


def _pgbench(conninfo: str, spread: Spread, sizes: Sizes, say: Callable[[str], None]) -> Reference:
    say("pgbench with the statements of optimistic")
    return run_pgbench(conninfo, script(spread), sizes.pool, sizes.seconds / 2)


async def _measure(
    conninfo: str, redis_url: str, strategy: Strategy, spread: Spread, sizes: Sizes, size: int
) -> Measured:
    """One strategy with so many connections."""
    async with (
        open_pool(conninfo, size=size, wait_seconds=_WAIT_SECONDS, name="stockwire-bench") as pool,
        _OPENERS[strategy](strategy, pool, redis_url, spread) as ask,
    ):
        await _ask_until(ask, spread, sizes.clients, _WARM_UP)
        return await _ask_until(ask, spread, sizes.clients, sizes.seconds)


async def _ask_until(ask: _Ask, spread: Spread, clients: int, seconds: float) -> Measured:
    """Closed loop: each client asks again as soon as it is answered."""
    latencies = Latencies()
    conflicts = 0
    started = time.monotonic()
    until = started + seconds

    async def client(number: int) -> None:
        nonlocal conflicts
        random = Random(number)
        while (began := time.monotonic()) < until:
            key = uuid4().hex
            line = Line(spread.sku(random.randint(1, spread.skus)), 1)
            answer = await ask(Reserve(_CALLER, key, key, (line,)))
            if isinstance(answer, Granted):
                latencies.record(round(1e6 * (time.monotonic() - began)))
            elif answer.reason is Reason.CONFLICT:
                conflicts += 1
            else:
                raise AssertionError(f"{line.sku} was refused: {answer}")

    await asyncio.gather(*(client(number) for number in range(clients)))
    return Measured(latencies.count, conflicts, time.monotonic() - started, latencies.summary())


def _reference_figures(scenario: str, reference: Reference) -> Iterator[Figure]:
    yield Figure(scenario, "pgbench, same statements", reference.per_second, "requests/s")
    yield Figure(scenario, "pgbench, same statements, p99", reference.p99_ms, "ms")


def _figures(scenario: str, strategy: Strategy, measured: Measured) -> Iterator[Figure]:
    yield Figure(scenario, strategy.value, measured.per_second, "requests/s")
    yield Figure(scenario, f"{strategy.value}, p99", measured.latency.p99, "ms")
    if measured.conflicts:
        yield Figure(scenario, f"{strategy.value}, conflicts", measured.conflicts, "requests")


def _seed(conninfo: str, spread: Spread) -> None:
    skus = spread.all_skus()
    with psycopg.connect(conninfo) as connection:
        connection.execute(_QUERIES["seed_warehouses"], {"warehouses": [_WAREHOUSE]})
        connection.execute(
            _QUERIES["seed_stock"], {"skus": skus, "warehouses": [_WAREHOUSE], "seed": 1}
        )
        connection.execute(
            _QUERIES["bench_open"], {"skus": skus, "units": _UNITS, "warehouse": _WAREHOUSE}
        )


def _check(conninfo: str) -> None:
    """What is not right is not fast: each unit that is reserved is in a live hold.

    Raises:
        AssertionError: it is not so.
    """
    with psycopg.connect(conninfo) as connection:
        wrong = connection.execute(_QUERIES["bench_wrong"], {"warehouse": _WAREHOUSE}).fetchall()
    if wrong:
        raise AssertionError(f"reserved and held differ: {wrong[:5]}")
