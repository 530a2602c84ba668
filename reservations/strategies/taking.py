"""What every strategy on Postgres does: look, choose, take, refuse."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from psycopg import AsyncConnection

from reservations.basket import Granted, Reason, Refused, Reserve
from reservations.events import Missing, ReservationFailed, outbox_row
from reservations.idempotency import decode, digest_of, encode, replayed
from reservations.sourcing import Missing as Lacking
from reservations.sourcing import Part, Row, source
from reservations.strategies.taker import Order
from sql.queries import load_queries

_QUERIES = load_queries()
_VIEW = _QUERIES["reserve_view"]
_TAKE = _QUERIES["reserve_take"]
_REFUSE = _QUERIES["refuse"]

#: Rows of stock as the queries give them: SKU, warehouse, free units, version.
StockRow = tuple[str, str, int, int]


class Attempt:
    """One order's parameters, computed once for all of its attempts."""

    def __init__(self, order: Order) -> None:
        """For the connections that are given to its methods."""
        self.order = order
        self.request: Reserve = order.request
        self.parameters: dict[str, Any] = {
            "caller": self.request.caller,
            "key": self.request.key,
            "skus": as_array(line.sku for line in self.request.lines),
            "warehouses": as_array(self.request.warehouses),
        }

    @cached_property
    def digest(self) -> bytes:
        """Of the request."""
        return digest_of(self.request)

    async def look(self, connection: AsyncConnection) -> Granted | Refused | Sequence[StockRow]:
        """The answer that stands under the key, else what there is now."""
        cursor = await connection.execute(_VIEW, self.parameters)
        return self.seen(await cursor.fetchall())

    def seen(self, rows: Sequence[Sequence[Any]]) -> Granted | Refused | list[StockRow]:
        """As `look`, from the rows of `reserve_view`."""
        request, answer = rows[0][:2]
        if answer is not None:
            before = replayed(self.digest, request, answer)
            assert isinstance(before, Granted | Refused)
            return before
        return [(row[2], row[3], row[4], row[5]) for row in rows if row[2] is not None]

    def choose(self, rows: Iterable[StockRow]) -> list[Part] | Lacking:
        """From which rows the basket is taken, or what is missing."""
        by_sku: dict[str, list[Row]] = {}
        for sku, warehouse, free, version in rows:
            by_sku.setdefault(sku, []).append(Row(warehouse, free, version))
        return source(self.request.lines, by_sku, self.request.sourcing, self.request.warehouses)

    async def take(self, connection: AsyncConnection, parts: Sequence[Part]) -> Granted:
        """Take the parts, if their rows are as they were.

        Raises:
            psycopg.errors.SerializationFailure: they are not; nothing was done.
            psycopg.errors.UniqueViolation: the key has an answer meanwhile; nothing was done.
        """
        request = self.request
        cursor = await connection.execute(
            _TAKE,
            {
                "skus": as_array(part.sku for part in parts),
                "warehouses": as_array(part.warehouse for part in parts),
                "quantities": as_array(part.quantity for part in parts),
                "versions": as_array(part.version for part in parts),
                "reservation": self.order.reservation,
                "strategy": self.order.strategy.value,
                "caller": request.caller,
                "key": request.key,
                "reference": request.reference,
                "hold_seconds": request.hold_seconds,
                "request": self.digest,
            },
        )
        row = await cursor.fetchone()
        assert row is not None
        granted = decode(row[0])
        assert isinstance(granted, Granted)
        return granted

    async def refuse(self, connection: AsyncConnection, lacking: Lacking) -> Refused:
        """Say no, for good: it is kept under the key and told.

        Raises:
            psycopg.errors.UniqueViolation: the key has an answer meanwhile; nothing was done.
        """
        request = self.request
        refused = Refused(
            Reason.UNKNOWN_SKU if lacking.unknown else Reason.INSUFFICIENT, lacking.short
        )
        event = ReservationFailed(
            occurred_at=datetime.now(UTC),
            caller=request.caller,
            reference=request.reference,
            reservation=self.order.reservation,
            reason=refused.reason,
            short=tuple(
                Missing(sku=line.sku, wanted=line.wanted, available=line.available)
                for line in refused.short
            ),
        )
        await connection.execute(
            _REFUSE,
            {
                **outbox_row(event),
                "caller": request.caller,
                "key": request.key,
                "request": self.digest,
                "answer": encode(refused),
            },
        )
        return refused


def as_array(values: Iterable[str | int]) -> str:
    """A list as Postgres reads it, for a parameter that the statement casts.

    psycopg looks at each list for what is in it; with six of them in a reservation that is a
    seventh of what one costs this process.
    """
    quoted = (str(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"
