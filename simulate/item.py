"""What is sold in a rush: a SKU of its own that is there for so long only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from reservations.basket import Line, Reserve
from reservations.pool import outages
from simulate.buyers import Buyer
from simulate.report import Left
from sql.queries import load_queries

_QUERIES = load_queries()

WAREHOUSE = "SIMULATED"


@dataclass(frozen=True, slots=True)
class Item:
    """A SKU in one warehouse; `caller` is who its buyers are to the write side."""

    sku: str
    caller: str
    warehouse: str = WAREHOUSE

    def reference(self, buyer: Buyer) -> str:
        """The number of a buyer's order, which is the idempotency key as well."""
        return f"{self.sku}/{buyer.number}"

    def request(self, buyer: Buyer) -> Reserve:
        """What a buyer asks for: one unit."""
        reference = self.reference(buyer)
        return Reserve(self.caller, reference, reference, (Line(self.sku, 1),))


@asynccontextmanager
async def on_sale(pool: AsyncConnectionPool, item: Item, units: int) -> AsyncIterator[None]:
    """Put up so many units; afterwards the SKU is gone, and with it all that was reserved of it.

    Channels see the SKU while it is there, as they do any other.

    Raises:
        Outage: Postgres takes no work.
    """
    row = {"sku": item.sku, "warehouse": item.warehouse, "units": units}
    with outages():
        async with pool.connection() as connection:
            await connection.execute(_QUERIES["simulate_warehouse"], row)
            await connection.execute(_QUERIES["simulate_open"], row)
    try:
        yield
    finally:
        with outages():
            async with pool.connection() as connection:
                await _clear(connection, item)


async def _clear(connection: AsyncConnection, item: Item) -> None:
    row = {"sku": item.sku, "caller": item.caller}
    async with connection.transaction():
        await connection.execute(_QUERIES["simulate_forget_keys"], row)
        await connection.execute(_QUERIES["simulate_forget_holds"], row)
        await connection.execute(_QUERIES["simulate_forget_reservations"], row)
        await connection.execute(_QUERIES["simulate_close"], row)


async def left(pool: AsyncConnectionPool, item: Item) -> Left:
    """What Postgres has of it; nothing if somebody has deleted it.

    Raises:
        Outage: Postgres takes no work.
    """
    with outages():
        async with pool.connection() as connection:
            cursor = await connection.execute(
                _QUERIES["simulate_left"], {"sku": item.sku, "warehouse": item.warehouse}
            )
            return Left(*(await cursor.fetchone() or (0, 0)))
