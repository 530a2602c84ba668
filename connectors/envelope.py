"""Debezium change events, validated by pydantic straight from the bytes that Kafka carries.

Typed dicts rather than models: validation costs 4.5 µs an event instead of 7.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple, NotRequired, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from inventory.availability import ChannelKind, ChannelPolicy, share_units
from inventory.errors import InvalidEvent, PolicyError
from inventory.names import check_sku, check_warehouse
from inventory.stock import Operation, StockChange, StockRow, milliseconds

# Postgres's integer, and the years that a timestamp can be written in: what is accepted here can
# be written to Redis and into every message.
_Whole = Annotated[int, Field(ge=-(2**31), lt=2**31, strict=True)]
_Quantity = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
_Microseconds = Annotated[int, Field(ge=0, lt=253_402_300_800_000_000, strict=True)]
_Moment = Annotated[
    datetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime.max.replace(tzinfo=UTC)),
]
_Version = Annotated[int, Field(ge=0, lt=2**53, strict=True)]


class _Source(TypedDict):
    ts_us: _Microseconds
    lsn: NotRequired[int | None]
    snapshot: NotRequired[str | None]


class _StockRecord(TypedDict):
    sku: str
    warehouse: str
    on_hand: _Quantity
    reserved: _Quantity
    safety_stock: _Whole
    incoming: _Whole
    incoming_at: _Moment | None
    version: _Version
    reason: str | None
    reference: str | None
    caused_by: str | None


class _StockEnvelope(TypedDict):
    op: Operation
    before: _StockRecord | None
    after: _StockRecord | None
    source: _Source


class _ChannelRecord(TypedDict):
    name: str
    kind: ChannelKind
    topic: str
    warehouses: list[str] | None
    buffer: _Quantity
    share: str
    low_stock_threshold: _Quantity


class _ChannelEnvelope(TypedDict):
    op: Operation
    before: _ChannelRecord | None
    after: _ChannelRecord | None
    source: _Source


_stock_envelope: Final = TypeAdapter(_StockEnvelope)
_channel_envelope: Final = TypeAdapter(_ChannelEnvelope)

#: `source.snapshot` of the last row that an initial snapshot reads from a table.
_LAST_SNAPSHOT_ROW = frozenset({"last_in_data_collection", "last"})
#: `source.snapshot` of rows that an initial snapshot reads.
_SNAPSHOT_ROW = frozenset({"true", "first", "first_in_data_collection"})


class PolicyChange(NamedTuple):
    """A committed change of one channel's policy; `policy` is None when the channel is gone.

    `whole` says that the initial snapshot of the channel table ends here, or ended before.
    """

    name: str
    policy: ChannelPolicy | None
    whole: bool


def read_stock_change(value: bytes) -> StockChange:
    """Read one event of the stock topic.

    Raises:
        InvalidEvent: it is not a change of a stock row that can be applied; the text names the
            field and what is wrong with it.
    """
    envelope = _validated(_stock_envelope.validate_json, value)
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


def read_policy_change(value: bytes) -> PolicyChange:
    """Read one event of the channel topic.

    Raises:
        InvalidEvent: it is not a policy; the text names the field and what is wrong with it.
    """
    envelope = _validated(_channel_envelope.validate_json, value)
    snapshot = envelope["source"].get("snapshot")
    whole = snapshot in _LAST_SNAPSHOT_ROW or snapshot not in _SNAPSHOT_ROW
    row = envelope["after"]
    if row is not None:
        try:
            return PolicyChange(row["name"], _channel_policy(row), whole)
        except PolicyError as exc:
            raise InvalidEvent(str(exc)) from exc
    before = envelope["before"]
    if before is None:
        raise InvalidEvent(f"op {envelope['op']!s} without the row that it must carry")
    return PolicyChange(before["name"], None, whole)


_T = TypeVar("_T")


def _validated(validate: Callable[[bytes], _T], value: bytes) -> _T:
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


def _channel_policy(record: _ChannelRecord) -> ChannelPolicy:
    warehouses = record["warehouses"]
    return ChannelPolicy(
        record["name"],
        record["kind"],
        record["topic"],
        None if warehouses is None else frozenset(warehouses),
        record["buffer"],
        share_units(record["share"]),
        record["low_stock_threshold"],
    )
