"""What the channels are told: the messages, their keys and their headers.

Each message is JSON in UTF-8; its headers are CloudEvents 1.0 in binary mode.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import orjson
from typing_extensions import TypedDict

from inventory.availability import ChannelPolicy
from inventory.names import level_key, movement_id
from inventory.projection import ChannelState, SkuProjection
from inventory.stock import Operation, StockChange


class AvailabilityMessage(TypedDict):
    """State of a SKU on a channel of kind `availability`; a later `version` wins."""

    sku: str
    channel: str
    available: int
    status: str
    previous_available: int | None
    version: int
    committed_at: str
    restock_at: str | None


class LevelMessage(TypedDict):
    """State of a stock row, for a channel of kind `level`; a later `version` wins."""

    sku: str
    warehouse: str
    on_hand: int
    reserved: int
    available: int
    safety_stock: int
    incoming: int
    version: int
    reason: str | None
    reference: str | None
    committed_at: str


class MovementKind(StrEnum):
    """Whether a ledger adds a message up, or starts from it."""

    MOVEMENT = "movement"
    BALANCE = "balance"


class MovementMessage(TypedDict):
    """A change of a stock row, for a channel of kind `movement`; each `movement_id` counts once.

    A `balance` is a row read by a snapshot: absolute quantities, deltas null.
    """

    kind: MovementKind
    sku: str
    warehouse: str
    delta_on_hand: int | None
    delta_reserved: int | None
    on_hand: int
    reserved: int
    reason: str | None
    reference: str | None
    caused_by: str | None
    version: int
    previous_version: int | None
    movement_id: str
    committed_at: str


class OutgoingMessage(NamedTuple):
    """A Kafka record to be published; a `value` of None is a tombstone."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def timestamp(microseconds: int) -> str:
    """ISO 8601 in UTC, from µs since the epoch."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{fraction:06d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """The time down to the second: thousands of messages share it, and it is dear to format."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def availability_messages(
    projection: SkuProjection, policies: Iterable[ChannelPolicy]
) -> list[OutgoingMessage]:
    """Tell each channel what it may promise of a SKU, or that the SKU is gone there (tombstone)."""
    committed_at = timestamp(projection.committed_us)
    return [
        _availability_message(projection, policy, projection.channels[policy.name], committed_at)
        for policy in policies
        if policy.name in projection.channels
    ]


def _availability_message(
    projection: SkuProjection, policy: ChannelPolicy, state: ChannelState | None, committed_at: str
) -> OutgoingMessage:
    sku = projection.sku
    value: bytes | None = None
    if state is not None:
        message: AvailabilityMessage = {
            "sku": sku,
            "channel": policy.name,
            "available": state.available,
            "status": state.status,
            "previous_available": state.previous_available,
            "version": state.version,
            "committed_at": committed_at,
            "restock_at": None if state.restock_at is None else timestamp(state.restock_at * 1000),
        }
        value = orjson.dumps(message)
    return OutgoingMessage(
        policy.topic,
        sku.encode(),
        value,
        _headers(policy, "availability", f"{sku}|{projection.version}", sku, committed_at),
    )


def level_message(change: StockChange, policy: ChannelPolicy, committed_at: str) -> OutgoingMessage:
    """Tell a channel the level of a stock row, or that the row is gone (a tombstone)."""
    key = level_key(change.sku, change.warehouse)
    row = change.after
    value: bytes | None = None
    if row is not None:
        message: LevelMessage = {
            "sku": change.sku,
            "warehouse": change.warehouse,
            "on_hand": row.on_hand,
            "reserved": row.reserved,
            "available": row.free,
            "safety_stock": row.safety_stock,
            "incoming": row.incoming,
            "version": row.version,
            "reason": row.reason,
            "reference": row.reference,
            "committed_at": committed_at,
        }
        value = orjson.dumps(message)
    return OutgoingMessage(
        policy.topic,
        key.encode(),
        value,
        _headers(policy, "level", f"{key}|{change.version}", key, committed_at),
    )


def movement_message(
    change: StockChange, policy: ChannelPolicy, committed_at: str
) -> OutgoingMessage:
    """Tell a ledger what moved. An insert starts from zero; a delete ends at zero."""
    before, after = change.before, change.after
    # A deleted row says why it was last changed, not why it is gone: a delete names no reason.
    reason, reference, caused_by = (
        (after.reason, after.reference, after.caused_by) if after else (None, None, None)
    )
    on_hand, reserved = (after.on_hand, after.reserved) if after else (0, 0)
    snapshot = change.operation is Operation.READ
    movement = movement_id(change.sku, change.warehouse, change.version)
    message: MovementMessage = {
        "kind": MovementKind.BALANCE if snapshot else MovementKind.MOVEMENT,
        "sku": change.sku,
        "warehouse": change.warehouse,
        "delta_on_hand": None if snapshot else on_hand - (before.on_hand if before else 0),
        "delta_reserved": None if snapshot else reserved - (before.reserved if before else 0),
        "on_hand": on_hand,
        "reserved": reserved,
        "reason": reason,
        "reference": reference,
        "caused_by": caused_by,
        "version": change.version,
        "previous_version": before.version if before else None,
        "movement_id": movement,
        "committed_at": committed_at,
    }
    return OutgoingMessage(
        policy.topic,
        change.sku.encode(),
        orjson.dumps(message),
        _headers(policy, "movement", movement, change.sku, committed_at),
    )


def _headers(
    policy: ChannelPolicy, kind: str, event_id: str, subject: str, time: str
) -> list[tuple[str, bytes]]:
    return [
        ("ce_id", event_id.encode()),
        *_constant_headers(policy.name, kind),
        ("ce_time", time.encode()),
        ("ce_subject", subject.encode()),
    ]


@lru_cache
def _constant_headers(channel: str, kind: str) -> tuple[tuple[str, bytes], ...]:
    return (
        ("ce_source", f"/stockwire/channels/{channel}".encode()),
        ("ce_type", f"stockwire.{kind}.v1".encode()),
        ("ce_specversion", b"1.0"),
    )
