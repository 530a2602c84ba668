"""The sales in Postgres: what is allotted, and what of it is held, sold and free again."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from reservations.basket import Granted, Reason, Refused, Short
from reservations.flash.book import Book, ended
from reservations.flash.grant import Sale
from reservations.idempotency import digest, replayed
from reservations.pool import outages
from reservations.trying import PATIENCE_SECONDS, Conflicted, Tally, keep_trying
from sql.queries import load_queries

log = structlog.stdlib.get_logger(__name__)

#: Who lets go what nobody asked for.
EXPIRY = "expiry"

_QUERIES = load_queries()
_OPEN = _QUERIES["flash_open"]
_ALLOT = _QUERIES["flash_allot"]
_FREE_UNITS = _QUERIES["flash_free_units"]
_LATEST = _QUERIES["flash_latest"]
_CURRENT = _QUERIES["flash_current"]
_LOCK = _QUERIES["flash_lock"]
_SALE_OF = _QUERIES["flash_sale_of"]
_KEPT = _QUERIES["idempotency_kept"]
_SALES_DUE = _QUERIES["flash_sales_due"]
_DUE = _QUERIES["flash_due"]
_LOCK_RESERVATION = _QUERIES["flash_lock_reservation"]
_RELEASE_VIEW = _QUERIES["flash_release_view"]
_LOCK_STOCK = _QUERIES["flash_lock_stock"]
_END_HOLDS = _QUERIES["flash_end_holds"]
_UNITS = _QUERIES["flash_units"]
_FREE_STOCK = _QUERIES["flash_free_stock"]
_LET_GO = _QUERIES["flash_let_go"]


@dataclass(frozen=True, slots=True)
class LetGo:
    """Holds that have ended, and whether the sale has their units again."""

    sale: Sale
    reservations: Sequence[UUID]
    back: bool


class Ledger:
    """The sales in Postgres.

    Args:
        pool: connections that commit each statement, as `open_pool` makes them.

    Raises (all methods):
        Outage: Postgres takes no work.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._tally = Tally()

    async def open(
        self, sku: str, warehouse: str, units: int, *, caller: str, reference: str
    ) -> Sale | Refused:
        """Set units aside for a sale, in one transaction: free before, reserved afterwards."""
        values: dict[str, Any] = {
            "sku": sku,
            "warehouse": warehouse,
            "units": units,
            "caller": caller,
            "reference": reference,
        }
        with outages():
            async with self._pool.connection() as connection:
                async with connection.transaction() as transaction:
                    row = await _one(connection, _OPEN, values)
                    if row is None:
                        return Refused(Reason.CONFLICT)
                    allotted = await _one(connection, _ALLOT, {**values, "sale": row[0]})
                    if allotted is not None:
                        return await _locked(connection, row[0])
                    free = await _one(connection, _FREE_UNITS, values)
                    # Leaves the block, which undoes the row of the sale.
                    transaction.force_rollback = True
                if free is None:
                    return Refused(Reason.UNKNOWN_SKU, (Short(sku, units, 0),))
                return Refused(Reason.INSUFFICIENT, (Short(sku, units, free[0]),))

    async def latest(self, sku: str) -> Sale | None:
        """The last sale of a SKU, open or closed."""
        sales = await self._sales(_LATEST, {"sku": sku})
        return sales[0] if sales else None

    async def current(self, closed_seconds: float) -> Sequence[Sale]:
        """Sales that are open, and those that were closed so many seconds ago at most."""
        return await self._sales(_CURRENT, {"seconds": closed_seconds})

    async def sale_of(self, reservation: UUID) -> tuple[str, int] | None:
        """SKU and id of the sale that a settled reservation is of."""
        with outages():
            async with self._pool.connection() as connection:
                row = await _one(connection, _SALE_OF, {"reservation": reservation})
                return None if row is None else (row[0], row[1])

    async def ended(self, reservations: Sequence[UUID]) -> Mapping[UUID, str | None]:
        """Where the units of settled reservations are: `sold`, `freed`, `back`; None if held."""
        with outages():
            async with self._pool.connection() as connection:
                return await ended(connection, reservations)

    async def answer_of(self, caller: str, key: str, request: bytes) -> Granted | Refused | None:
        """What a key was answered, in whatever way; None if it was not."""
        with outages():
            async with self._pool.connection() as connection:
                row = await _one(connection, _KEPT, {"caller": caller, "key": key})
        if row is None:
            return None
        answer = replayed(request, *row)
        assert isinstance(answer, Granted | Refused)
        return answer

    @asynccontextmanager
    async def locked(self, sale: int, *, with_stock: bool = False) -> AsyncIterator[Book]:
        """A transaction in which nobody else changes the sale.

        Args:
            sale: its id.
            with_stock: lock its row of stock as well, which comes before the sale.
        """
        with outages():
            async with self._pool.connection() as connection, connection.transaction():
                if with_stock:
                    await connection.execute(_LOCK_STOCK, {"sale": sale})
                yield Book(connection, await _locked(connection, sale))

    async def release(self, reservation: UUID, *, caller: str, key: str) -> LetGo | None:
        """Let go a live hold, and keep the answer under the key.

        Returns:
            None if it is not live, or if the key was answered before: nothing was done.

        Raises:
            Conflicted: others kept the rows locked.
        """

        async def once(connection: AsyncConnection) -> LetGo | None:
            async with connection.transaction():
                values = {"reservation": reservation, "caller": caller, "key": key}
                await connection.execute(_LOCK_RESERVATION, values)
                row = await _one(connection, _RELEASE_VIEW, values)
                if row is None:
                    return None
                request = digest("release", reservation=reservation)
                return await _let_go(
                    connection, row[0], [reservation], "released", caller, key, request
                )

        with outages():
            return await keep_trying(self._pool, once, PATIENCE_SECONDS, self._tally)

    async def expire(self, limit: int) -> Sequence[LetGo]:
        """Let go up to `limit` holds that are due; each is taken by one worker."""
        let_go: list[LetGo] = []
        with outages():
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SALES_DUE)
                sales = [row[0] for row in await cursor.fetchall()]
            for sale in sales:
                rows = limit - sum(len(each.reservations) for each in let_go)
                if rows <= 0:
                    break

                async def once(
                    connection: AsyncConnection, sale: int = sale, rows: int = rows
                ) -> LetGo | None:
                    async with connection.transaction():
                        cursor = await connection.execute(_DUE, {"sale": sale, "limit": rows})
                        due = [row[0] for row in await cursor.fetchall()]
                        if not due:
                            return None
                        return await _let_go(connection, sale, due, "expired", EXPIRY, None, b"")

                try:
                    taken = await keep_trying(self._pool, once, PATIENCE_SECONDS, self._tally)
                except Conflicted as conflict:
                    log.warning("a sale with due holds is locked by others", error=str(conflict))
                    continue
                if taken is not None:
                    let_go.append(taken)
        return let_go

    async def _sales(self, query: Any, values: Mapping[str, Any]) -> Sequence[Sale]:
        with outages():
            async with (
                self._pool.connection() as connection,
                connection.cursor(row_factory=class_row(Sale)) as cursor,
            ):
                await cursor.execute(query, values)
                return await cursor.fetchall()


async def _let_go(
    connection: AsyncConnection,
    sale_id: int,
    reservations: Sequence[UUID],
    status: str,
    caller: str,
    key: str | None,
    request: bytes,
) -> LetGo:
    """End live holds, whose reservations are locked.

    `reserved` falls only if the sale is closed.
    """
    values: dict[str, Any] = {
        "sale": sale_id,
        "reservations": list(reservations),
        "status": status,
        "caller": caller,
        "key": key,
        "request": request,
    }
    await connection.execute(_LOCK_STOCK, values)
    sale = await _locked(connection, sale_id)
    version = sale.stock_version
    if sale.closed:
        units = await _one(connection, _UNITS, values)
        assert units is not None
        reason = "expire" if status == "expired" else "release"
        row = await _one(connection, _FREE_STOCK, {**values, "units": units[0], "reason": reason})
        version = row[0] if row else version
    async with connection.pipeline():
        # Before the reservations, whose trigger counts what is not ended by then.
        where = "freed" if sale.closed else "back"
        await connection.execute(_END_HOLDS, {**values, "ended": where})
        await connection.execute(_LET_GO, {**values, "version": version})
    return LetGo(sale, reservations, not sale.closed)


async def _locked(connection: AsyncConnection, sale: int) -> Sale:
    async with connection.cursor(row_factory=class_row(Sale)) as cursor:
        await cursor.execute(_LOCK, {"sale": sale})
        row = await cursor.fetchone()
        assert row is not None
        return row


async def _one(
    connection: AsyncConnection, query: Any, values: Mapping[str, Any]
) -> tuple[Any, ...] | None:
    cursor = await connection.execute(query, values)
    return await cursor.fetchone()
