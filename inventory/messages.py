"""What the channels are told: the messages, their keys and their headers.

Each message is JSON in UTF-8, as `stockwire_client.contract` has it; its headers are CloudEvents
1.0 in binary mode, and what that module names beside them.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import orjson

from inventory.names import level_key, movement_id
from inventory.policy import ChannelPolicy
from inventory.projection import ChannelState, SkuProjection
from inventory.stock import Operation, StockChange
from inventory.topics import ALERTS
from stockwire_client.contract import (
    ECHO,
    SNAPSHOT,
    SNAPSHOT_LAST,
    SNAPSHOT_PART,
    TRACEPARENT,
    AlertMessage,
    AvailabilityMessage,
    LevelMessage,
    MovementKind,
    MovementMessage,
)

Header = tuple[str, bytes]

#: What a deleted row, or a change without any, says as its reason.
UNATTRIBUTED = "unattributed"

#: Marks a message of a back-fill.
IN_SNAPSHOT: tuple[Header, ...] = ((SNAPSHOT, b"true"),)

_IS_ECHO: tuple[Header, ...] = ((ECHO, b"true"),)


class OutgoingMessage(NamedTuple):
    """A Kafka record to be published; a `value` of None is a tombstone.

    Without a `partition` the key decides.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    partition: int | None = None


def timestamp(microseconds: int) -> str:
    """ISO 8601 in UTC, from µs since the epoch."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{fraction:06d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    """The time down to the second: thousands of messages share it, and it is dear to format."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def availability_messages(
    projection: SkuProjection,
    topics: Iterable[tuple[str, str]],
    marks: Iterable[Header] = (),
) -> list[OutgoingMessage]:
    """Tell channels what they may promise of a SKU, or that the SKU is gone there (tombstone).

    Args:
        projection: of the SKU.
        topics: name and topic of each channel to be told.
        marks: headers beside those of CloudEvents.
    """
    committed_at = timestamp(projection.committed_us)
    channels = projection.channels
    return [
        _availability_message(projection, name, topic, channels[name], committed_at, marks)
        for name, topic in topics
        if name in channels
    ]


def _availability_message(
    projection: SkuProjection,
    channel: str,
    topic: str,
    state: ChannelState | None,
    committed_at: str,
    marks: Iterable[Header],
) -> OutgoingMessage:
    sku = projection.sku
    value: bytes | None = None
    if state is not None:
        message: AvailabilityMessage = {
            "sku": sku,
            "channel": channel,
            "available": state.available,
            "status": state.status,
            "previous_available": state.previous_available,
            "backorderable": state.backorderable,
            "order_limit": state.order_limit,
            "version": state.version,
            "committed_at": committed_at,
            "restock_at": None if state.restock_at is None else timestamp(state.restock_at * 1000),
        }
        value = orjson.dumps(message)
    return OutgoingMessage(
        topic,
        sku.encode(),
        value,
        _headers(channel, "availability", f"{sku}|{projection.version}", sku, committed_at, marks),
    )


def alert_messages(
    projection: SkuProjection, marks: Iterable[Header] = ()
) -> list[OutgoingMessage]:
    """An alert for each channel where this projection has crossed a threshold."""
    alerts: list[OutgoingMessage] = []
    for channel, state in projection.channels.items():
        if state is None or (kind := state.alert) is None or state.previous_status is None:
            continue
        alert_id = f"{projection.sku}|{channel}|{projection.version}"
        committed_at = timestamp(projection.committed_us)
        message: AlertMessage = {
            "alert_id": alert_id,
            "kind": kind,
            "sku": projection.sku,
            "channel": channel,
            "available": state.available,
            "previous_available": state.previous_available,
            "status": state.status,
            "previous_status": state.previous_status,
            "version": state.version,
            "committed_at": committed_at,
        }
        headers = _headers(channel, "alert", alert_id, projection.sku, committed_at, marks)
        alerts.append(
            OutgoingMessage(ALERTS, projection.sku.encode(), orjson.dumps(message), headers)
        )
    return alerts


def snapshot_end(topic: str, partition: int, part: int, parts: int) -> OutgoingMessage:
    """Tell who reads this partition that one part of a back-fill is complete.

    A part is a partition of the stock topic; a partition is complete once all parts have ended.
    The record has no value: to who does not know of it, a key is gone that never was.
    """
    return OutgoingMessage(
        topic,
        f":snapshot/{part}".encode(),
        None,
        [(SNAPSHOT, SNAPSHOT_LAST), (SNAPSHOT_PART, f"{part}/{parts}".encode())],
        partition,
    )


def level_message(
    change: StockChange, policy: ChannelPolicy, committed_at: str, marks: Iterable[Header] = ()
) -> OutgoingMessage:
    """Tell a channel the level of a stock row, or that the row is gone (a tombstone).

    What the channel has caused itself is marked as such, not left out: the topic is compacted,
    and whoever reads it from its start needs the last level of every row.
    """
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
        if policy.is_echo(row.caused_by):
            marks = (*marks, *_IS_ECHO)
    return OutgoingMessage(
        policy.topic,
        key.encode(),
        value,
        _headers(
            policy.name,
            "level",
            f"{key}|{change.version}",
            key,
            committed_at,
            _traced(change, marks),
        ),
    )


def level_withdrawal(
    change: StockChange, policy: ChannelPolicy, marks: Iterable[Header] = ()
) -> OutgoingMessage:
    """Tell a channel that it hears of a stock row no longer (a tombstone), deleted or not.

    Its id ends with no version: the row may come back to the channel as it was.
    """
    key = level_key(change.sku, change.warehouse)
    event_id = f"{key}|{change.version}|withdrawn"
    committed_at = timestamp(max(change.committed_us, policy.committed_us))
    headers = _headers(policy.name, "level", event_id, key, committed_at, marks)
    return OutgoingMessage(policy.topic, key.encode(), None, headers)


def movement_message(
    change: StockChange, policy: ChannelPolicy, committed_at: str, marks: Iterable[Header] = ()
) -> OutgoingMessage:
    """Tell a ledger what moved. An insert starts from zero; a delete ends at zero.

    A row read by a snapshot is told as a balance: absolute quantities, no deltas.
    """
    before, after = change.before, change.after
    # A deleted row says why it was last changed, not why it is gone.
    reason, reference, caused_by = (
        (after.reason, after.reference, after.caused_by) if after else (UNATTRIBUTED, None, None)
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
        _headers(
            policy.name, "movement", movement, change.sku, committed_at, _traced(change, marks)
        ),
    )


def _traced(change: StockChange, marks: Iterable[Header]) -> Iterable[Header]:
    if change.traceparent is None:
        return marks
    return (*marks, (TRACEPARENT, change.traceparent))


def _headers(
    channel: str, kind: str, event_id: str, subject: str, time: str, marks: Iterable[Header]
) -> list[Header]:
    return [
        ("ce_id", event_id.encode()),
        *_constant_headers(channel, kind),
        ("ce_time", time.encode()),
        ("ce_subject", subject.encode()),
        *marks,
    ]


@lru_cache
def _constant_headers(channel: str, kind: str) -> tuple[Header, ...]:
    return (
        ("ce_source", f"/stockwire/channels/{channel}".encode()),
        ("ce_type", f"stockwire.{kind}.v1".encode()),
        ("ce_specversion", b"1.0"),
    )
