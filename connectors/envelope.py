"""Debezium's events of stock rows, validated by pydantic straight from what Kafka carries.

Typed dicts rather than models: validation costs 4.5 µs an event instead of 7.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final, NotRequired, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from inventory.errors import InvalidEvent
from inventory.names import check_sku, check_warehouse
from inventory.stock import Operation, StockChange, StockRow, milliseconds

# Postgres's integer, and the years that a timestamp can be written in: what is accepted here can
# be written to Redis and into every message.
_Whole = Annotated[int, Field(ge=-(2**31), lt=2**31, strict=True)]
Quantity = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
_Microseconds = Annotated[int, Field(ge=0, lt=253_402_300_800_000_000, strict=True)]
_Moment = Annotated[
    datetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime.max.replace(tzinfo=UTC)),
]
Version = Annotated[int, Field(ge=0, lt=2**53, strict=True)]


class Source(TypedDict):
    """Where and when a change was committed."""

    ts_us: _Microseconds
    lsn: NotRequired[int | None]
    snapshot: NotRequired[str | None]


class _StockRecord(TypedDict):
    sku: str
    warehouse: str
    on_hand: Quantity
    reserved: Quantity
    safety_stock: _Whole
    incoming: _Whole
    incoming_at: _Moment | None
    version: Version
    reason: str | None
    reference: str | None
    caused_by: str | None


class _StockEnvelope(TypedDict):
    op: Operation
    before: _StockRecord | None
    after: _StockRecord | None
    source: Source


_stock_envelope: Final = TypeAdapter(_StockEnvelope)


def read_stock_change(value: bytes) -> StockChange:
    """Read one event of the stock topic.

    Raises:
        InvalidEvent: it is not a change of a stock row that can be applied; the text names the
            field and what is wrong with it.
    """
    envelope = validated(_stock_envelope.validate_json, value)
    before, after, source = envelope["before"], envelope["after"], envelope["source"]
    row = after or before
    if row is None or (after is None) != (envelope["op"] is Operation.DELETE):
        raise InvalidEvent(f"op {envelope['op']!s} without the row that it must carry")
    return StockChange(
        envelope["op"],
        check_sku(row["sku"]),
        check_warehouse(row["warehouse"]),
        None if before is None else _stock_row(before),
        None if after is None else _stock_row(after),
        source["ts_us"],
        source.get("lsn"),
    )


_T = TypeVar("_T")


def validated(validate: Callable[[bytes], _T], value: bytes) -> _T:
    """An event, if it is one of this shape.

    Raises:
        InvalidEvent: it is not; the text names each field and what is wrong with it.
    """
    try:
        return validate(value)
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in error['loc']) or 'event'}: {error['msg']}"
            for error in exc.errors(include_url=False, include_input=False, include_context=False)
        )
        raise InvalidEvent(problems) from None


def _stock_row(record: _StockRecord) -> StockRow:
    incoming_at = record["incoming_at"]
    return StockRow(
        record["on_hand"],
        record["reserved"],
        record["safety_stock"],
        record["incoming"],
        None if incoming_at is None else milliseconds(incoming_at),
        record["version"],
        record["reason"],
        record["reference"],
        record["caused_by"],
    )
