"""From raw records to changes, and those that cannot be read."""

from collections.abc import Iterable
from typing import NamedTuple

from connectors.envelope import read_stock_change
from connectors.policy_envelope import OverrideChange, read_override_change
from inventory.errors import InvalidEvent
from inventory.groups import REPAIR, REPLACES, group_id
from inventory.messages import OutgoingMessage
from inventory.policy import ChannelOverride
from inventory.stock import Operation, StockChange, StockLevel, level_of
from inventory.topics import CHANNEL_SKU
from projections.ports import NOTHING_REPLACED, Changes, Replaced, SkuChanges
from stockwire_client.contract import TRACEPARENT
from stream.dead_letter import dead_letter
from stream.inbox import Record

#: A longer number is in no hash that can be read: Python takes no more digits for one.
_DIGITS = 4_000


class Decoded(NamedTuple):
    """What a batch holds, each in order.

    Attributes:
        changes: of stock rows.
        overrides: what SKUs have of their own on a channel.
        partitions: where each SKU's changes came from.
        dead_letters: one for each record that cannot be read.
    """

    changes: list[StockChange]
    overrides: list[OverrideChange]
    partitions: dict[str, int]
    dead_letters: list[OutgoingMessage]


def decode(records: Iterable[Record], consumer: str) -> Decoded:
    """Read each record that is meant for `consumer`.

    A tombstone follows its delete event and says nothing new.
    """
    found = Decoded([], [], {}, [])
    changes, overrides, partitions, dead_letters = found
    for record in records:
        if record.value is None or (record.headers and _is_for_another(record, consumer)):
            continue
        try:
            if record.topic == CHANNEL_SKU:
                override = read_override_change(record.value)
                if record.headers:
                    override = override._replace(replaces=_replaces(record))
                overrides.append(override)
                partitions[override.sku] = record.partition
                continue
            change = read_stock_change(record.value)
            if record.headers:
                headers = dict(record.headers)
                change = change._replace(
                    traceparent=headers.get(TRACEPARENT),
                    repair=REPAIR in headers,
                    replaces=_replaces(record),
                )
        except InvalidEvent as reason:
            dead_letters.append(dead_letter(record, reason, consumer))
            continue
        changes.append(change)
        partitions[change.sku] = record.partition
    return found


def _replaces(record: Record) -> int | None:
    """The version that a record takes the place of; None without the header.

    Raises:
        InvalidEvent: it is not a number.
    """
    text = dict(record.headers).get(REPLACES)
    if text is None:
        return None
    if not (text.isdigit() and len(text) <= _DIGITS):
        raise InvalidEvent(f"header {REPLACES}: {text[:_DIGITS]!r} is not a version")
    return int(text)


def _is_for_another(record: Record, consumer: str) -> bool:
    addressee = dict(record.headers).get(REPAIR)
    return addressee is not None and group_id(addressee.decode(errors="replace")) != consumer


def conflate(decoded: Decoded) -> Changes:
    """The latest version of each row, by SKU; earlier ones would be overwritten.

    A row that a snapshot has read is the row as it is: what is kept of its SKU is made good. So it
    is when the auditor says that a row is a ghost; its version is none of Postgres'. A version that
    it says is false gives way to whatever comes with or after that.
    """
    repairs: set[str] = set()
    ghosts: set[str] = set()
    replaced: dict[str, tuple[dict[str, int], dict[str, int]]] = {}
    levels: dict[str, dict[str, StockLevel]] = {}
    overrides: dict[str, dict[str, ChannelOverride]] = {}
    for change in decoded.changes:
        if change.operation is Operation.READ or change.repair:
            repairs.add(change.sku)
        if change.repair:
            ghosts.add(change.sku)
        if change.replaces is not None:
            false = replaced.setdefault(change.sku, ({}, {}))
            false[0][change.warehouse] = change.replaces
        rows = levels.setdefault(change.sku, {})
        known = rows.get(change.warehouse)
        if known is None or change.version > known.version:
            rows[change.warehouse] = level_of(change)
    for operation, sku, channel, override, replaces in decoded.overrides:
        if replaces is not None:
            replaced.setdefault(sku, ({}, {}))[1][channel] = replaces
        if operation is Operation.READ:
            repairs.add(sku)
        own = overrides.setdefault(sku, {})
        if channel not in own or override.version > own[channel].version:
            own[channel] = override
    return {
        sku: SkuChanges(
            levels.get(sku, {}),
            overrides.get(sku, {}),
            partition,
            sku in repairs,
            sku in ghosts,
            Replaced(*replaced[sku]) if sku in replaced else NOTHING_REPLACED,
        )
        for sku, partition in decoded.partitions.items()
    }
