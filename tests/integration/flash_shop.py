"""A flash sale with a Redis and a database of its own, and ways to look at both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import uuid4

from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis

from inventory.settings import Settings
from reservations.basket import Granted, Line, Reserve
from reservations.flash import FlashSales
from reservations.flash.counter import CONNECTIONS, keys_of, open_redis
from reservations.flash.settler import Settler
from reservations.pool import open_pool
from tests.database import as_role

#: The workers of the test stack use database 0, and other tests 1 and 5.
DATABASE = 9


def want(sku: str, buyer: str, units: int = 1, *, hold_seconds: float = 600.0, **more) -> Reserve:
    return Reserve("web", f"{sku}/{buyer}", buyer, (Line(sku, units),), hold_seconds, **more)


@dataclass
class Shop:
    pool: AsyncConnectionPool
    redis: Redis
    sales: FlashSales

    def settler(self, name: str = "one", **options) -> Settler:
        return Settler(self.sales, self.redis, name, wait_seconds=0.01, **options)

    async def stock(self, sku: str, on_hand: int, safety_stock: int = 0) -> None:
        async with self.pool.connection() as connection:
            await connection.execute(
                "INSERT INTO inventory.stock (sku, warehouse, on_hand, safety_stock) "
                "VALUES (%s, 'W1', %s, %s)",
                [sku, on_hand, safety_stock],
            )

    async def opened(self, on_hand: int, units: int | None = None) -> str:
        """A SKU whose sale is open."""
        sku = f"F-{uuid4().hex[:8]}"
        await self.stock(sku, on_hand)
        await self.sales.open(sku, "W1", units or on_hand, caller="shop", reference="SALE-1")
        return sku

    async def row(self, query: str, *parameters: object) -> tuple:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(query, parameters)
            row = await cursor.fetchone()
            assert row is not None
            return row

    async def quantities(self, sku: str) -> tuple[int, int]:
        """On hand and reserved."""
        return await self.row("SELECT on_hand, reserved FROM inventory.stock WHERE sku = %s", sku)

    async def statuses(self, sku: str) -> dict[str, int]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT r.status, sum(l.quantity)::int FROM inventory.reservation r "
                "JOIN inventory.reservation_line l ON l.reservation = r.id "
                "WHERE l.sku = %s GROUP BY 1",
                [sku],
            )
            return dict(await cursor.fetchall())

    async def left(self, sku: str) -> int:
        return int(await self.redis.hget(keys_of(sku)[0], "left") or 0)

    async def settle(self, sku: str, settler: Settler | None = None) -> None:
        """Until the stream is empty, its pending entries too."""
        settler = settler or self.settler(claim_seconds=0)
        settler._kept_house = float("-inf")
        await settler.step()
        while await self.redis.xlen(keys_of(sku)[4]):
            await settler.step()

    async def granted(self, sku: str, buyer: str, units: int = 1, **more) -> Granted:
        answer = await self.sales.reserve(want(sku, buyer, units, **more))
        assert isinstance(answer, Granted), answer
        return answer

    async def sound(self, sku: str) -> bool:
        drift = await self.sales.reconcile(sku)
        assert drift is not None
        assert drift.sound, drift
        return True


@asynccontextmanager
async def shop(settings: Settings, database: str, *, size: int = 8) -> AsyncIterator[Shop]:
    url = urlsplit(str(settings.redis_url))._replace(path=f"/{DATABASE}").geturl()
    async with (
        open_redis(url) as redis,
        open_pool(as_role(database, "stockwire_app"), size=size) as pool,
    ):
        await redis.flushdb()
        # All connections are there before the first buyer comes: none has a head start.
        await asyncio.gather(*(redis.ping() for _ in range(CONNECTIONS)))
        yield Shop(pool, redis, FlashSales(pool, redis))
