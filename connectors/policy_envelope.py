"""Debezium's events of `inventory.channel` and `inventory.channel_sku`.

Columns that came later are optional: the topics may still hold events from before.
"""

from typing import Annotated, Final, NamedTuple, NotRequired, TypeVar

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from connectors.envelope import Quantity, Source, Version, validated
from inventory.errors import InvalidEvent, PolicyError
from inventory.names import check_sku
from inventory.policy import ChannelKind, ChannelOverride, ChannelPolicy, share_units
from inventory.stock import Operation

_T = TypeVar("_T")
_OrderSize = Annotated[int, Field(gt=0, lt=2**31, strict=True)]


class _ChannelRecord(TypedDict):
    name: str
    kind: ChannelKind
    topic: str
    warehouses: list[str] | None
    buffer: Quantity
    share: str
    low_stock_threshold: Quantity
    low_stock_hysteresis: NotRequired[Quantity]
    priority: NotRequired[Annotated[int, Field(strict=True)]]
    max_per_order: NotRequired[_OrderSize | None]
    backorder_limit: NotRequired[Quantity]
    blocked: NotRequired[bool]
    echo_of: NotRequired[str | None]
    version: NotRequired[Version]


class _ChannelEnvelope(TypedDict):
    op: Operation
    before: _ChannelRecord | None
    after: _ChannelRecord | None
    source: Source


class _OverrideRecord(TypedDict):
    channel: str
    sku: str
    buffer: Quantity | None
    share: str | None
    low_stock_threshold: Quantity | None
    low_stock_hysteresis: Quantity | None
    max_per_order: _OrderSize | None
    backorder_limit: Quantity | None
    ring_fence: Quantity
    blocked: bool
    version: Version


class _OverrideEnvelope(TypedDict):
    op: Operation
    before: _OverrideRecord | None
    after: _OverrideRecord | None
    source: Source


_channel_envelope: Final = TypeAdapter(_ChannelEnvelope)
_override_envelope: Final = TypeAdapter(_OverrideEnvelope)

#: `source.snapshot` of rows that an initial snapshot reads before the last one of their table.
_SNAPSHOT_ROW = frozenset({"true", "first", "first_in_data_collection"})


class PolicyChange(NamedTuple):
    """A committed change of one channel's policy.

    Attributes:
        policy: as it is now, or as it was when the channel is gone.
        gone: whether it is.
        version: of the row; a delete counts as the last version + 1.
        whole: the initial snapshot of the channel table ends here, or ended before.
    """

    policy: ChannelPolicy
    gone: bool
    version: int
    whole: bool


class OverrideChange(NamedTuple):
    """A committed change of what a SKU has of its own on a channel.

    Attributes:
        replaces: as `inventory.stock.StockChange` has it.
    """

    operation: Operation
    sku: str
    channel: str
    override: ChannelOverride
    replaces: int | None = None


def read_policy_change(value: bytes) -> PolicyChange:
    """Read one event of the channel topic.

    Raises:
        InvalidEvent: it is not a policy; the text names the field and what is wrong with it.
    """
    envelope = validated(_channel_envelope.validate_json, value)
    source = envelope["source"]
    row, gone = _row(envelope["op"], envelope["before"], envelope["after"])
    try:
        policy = _policy(row, source["ts_us"])
    except PolicyError as exc:
        raise InvalidEvent(str(exc)) from exc
    whole = source.get("snapshot") not in _SNAPSHOT_ROW
    return PolicyChange(policy, gone, policy.version + gone, whole)


def read_override_change(value: bytes) -> OverrideChange:
    """Read one event of the topic of overrides.

    Raises:
        InvalidEvent: it is not an override; the text names the field and what is wrong with it.
    """
    envelope = validated(_override_envelope.validate_json, value)
    row, gone = _row(envelope["op"], envelope["before"], envelope["after"])
    share = row["share"]
    try:
        override = ChannelOverride(
            row["version"] + gone,
            envelope["source"]["ts_us"],
            row["buffer"],
            None if share is None else share_units(share),
            row["low_stock_threshold"],
            row["low_stock_hysteresis"],
            row["max_per_order"],
            row["backorder_limit"],
            row["ring_fence"],
            row["blocked"],
            gone,
        )
    except PolicyError as exc:
        raise InvalidEvent(str(exc)) from exc
    return OverrideChange(envelope["op"], check_sku(row["sku"]), row["channel"], override)


def _row(operation: Operation, before: _T | None, after: _T | None) -> tuple[_T, bool]:
    """The row that an event is about, and whether it is gone."""
    row = after or before
    if row is None or (after is None) != (operation is Operation.DELETE):
        raise InvalidEvent(f"op {operation!s} without the row that it must carry")
    return row, after is None


def _policy(record: _ChannelRecord, committed_us: int) -> ChannelPolicy:
    warehouses = record["warehouses"]
    return ChannelPolicy(
        record["name"],
        record["kind"],
        record["topic"],
        None if warehouses is None else tuple(warehouses),
        record["buffer"],
        share_units(record["share"]),
        record["low_stock_threshold"],
        record.get("low_stock_hysteresis", 2),
        record.get("priority", 100),
        record.get("max_per_order"),
        record.get("backorder_limit", 0),
        record.get("blocked", False),
        record.get("echo_of"),
        record.get("version", 0),
        committed_us,
    )
