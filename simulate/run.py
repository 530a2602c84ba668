"""The same rush for one strategy after the other, on one database."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias
from uuid import uuid4

from psycopg_pool import AsyncConnectionPool

from reservations.basket import Strategy
from reservations.flash.guard import FlashGuard
from reservations.pool import open_pool
from reservations.service import Reservations
from simulate.buyers import Rush, Seller, let_in
from simulate.flash import selling
from simulate.item import Item, left, on_sale
from simulate.naive import NaiveSeller
from simulate.report import Result, summarise
from simulate.sellers import FlashSeller, ReservationSeller

#: All buyers but `pool_size` of them wait for a connection, the last one for all the others.
_WAIT_SECONDS = 300.0


class Way(StrEnum):
    """How units are sold: the strategies, and how not to do it."""

    OPTIMISTIC = Strategy.OPTIMISTIC.value
    PESSIMISTIC = Strategy.PESSIMISTIC.value
    REDIS = Strategy.REDIS.value
    NAIVE = "naive"


@dataclass(frozen=True, slots=True)
class Servers:
    """What a way may sell with."""

    pool: AsyncConnectionPool
    redis_url: str


_Opener: TypeAlias = Callable[[Servers, Item, Rush], AbstractAsyncContextManager[Seller]]


@asynccontextmanager
async def _optimistic(servers: Servers, item: Item, _: Rush) -> AsyncIterator[Seller]:
    yield ReservationSeller(Reservations(servers.pool), item, Strategy.OPTIMISTIC)


@asynccontextmanager
async def _pessimistic(servers: Servers, item: Item, _: Rush) -> AsyncIterator[Seller]:
    yield ReservationSeller(Reservations(servers.pool), item, Strategy.PESSIMISTIC)


@asynccontextmanager
async def _redis(servers: Servers, item: Item, rush: Rush) -> AsyncIterator[Seller]:
    async with selling(servers.pool, servers.redis_url, item, rush.units) as sales:
        guard = FlashGuard(sales.reserve_all, patience_seconds=0)
        yield FlashSeller(guard, item)


@asynccontextmanager
async def _naive(servers: Servers, item: Item, _: Rush) -> AsyncIterator[Seller]:
    yield NaiveSeller(servers.pool, item)


#: In the order in which they are tried. When one is left, what it has granted is in Postgres.
WAYS: Mapping[Way, _Opener] = MappingProxyType(
    {
        Way.OPTIMISTIC: _optimistic,
        Way.PESSIMISTIC: _pessimistic,
        Way.REDIS: _redis,
        Way.NAIVE: _naive,
    }
)


async def compare(
    conninfo: str,
    redis_url: str,
    rush: Rush,
    ways: Sequence[Way],
    *,
    pool_size: int,
    say: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Let the same buyers in once for each way, and sum up what came of it.

    Each has a SKU of its own, which is removed again, and the same number of connections.

    Raises:
        Outage: Postgres or Redis does not answer.
    """
    plan = rush.plan()
    run = uuid4().hex[:8]
    results = []
    async with open_pool(
        conninfo, size=pool_size, wait_seconds=_WAIT_SECONDS, name="stockwire-simulate"
    ) as pool:
        servers = Servers(pool, redis_url)
        for way in ways:
            say(f"{way}: {rush.buyers:,} buyers, {rush.units:,} units")
            item = Item(f"SIM-{way}-{run}", f"simulate-{way}-{run}")
            async with on_sale(pool, item, rush.units):
                async with WAYS[way](servers, item, rush) as seller:
                    visits = await let_in(plan, seller)
                results.append(summarise(way, rush, visits, await left(pool, item), seller.retries))
    return results
