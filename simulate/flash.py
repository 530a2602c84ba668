"""A flash sale with a worker that settles it, for as long as it is needed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis

from inventory.errors import Outage
from reservations.basket import Refused
from reservations.flash import FlashSales
from reservations.flash.settler import Settler
from simulate.item import Item

#: Of a command of Redis, in seconds; above the time that the settling worker waits for grants.
_SOCKET_SECONDS = 10.0


@asynccontextmanager
async def selling(
    pool: AsyncConnectionPool, redis_url: str, item: Item, units: int
) -> AsyncIterator[FlashSales]:
    """Sell so many units of a row of stock; afterwards all that was granted is in Postgres.

    Raises:
        Outage: Redis or Postgres takes no work, or there are fewer units.
    """
    async with Redis.from_url(redis_url, socket_timeout=_SOCKET_SECONDS) as redis:
        sales = FlashSales(pool, redis)
        opened = await sales.open(
            item.sku, item.warehouse, units, caller=item.caller, reference=item.sku
        )
        if isinstance(opened, Refused):
            raise Outage(f"No flash sale of {item.sku} can be opened: {opened.reason}.")
        stop = asyncio.Event()
        settling = asyncio.create_task(Settler(sales, redis, item.caller).run(stop))
        try:
            yield sales
        finally:
            stop.set()
            try:
                await settling
            finally:
                await sales.close(item.sku, caller=item.caller)
