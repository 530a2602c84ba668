"""From raw records to changes, and those that cannot be read."""

from collections.abc import Iterable
from typing import NamedTuple

from connectors.envelope import read_stock_change
from connectors.policy_envelope import OverrideChange, read_override_change
from inventory.errors import InvalidEvent
from inventory.groups import REPAIR, group_id, replaced_version
from inventory.messages import OutgoingMessage
from inventory.policy import ChannelOverride
from inventory.stock import Operation, StockChange, StockLevel, level_of
from inventory.topics import CHANNEL_SKU
from projections.ports import NOTHING_REPLACED, Changes, Replaced, SkuChanges
from stockwire_client.contract import TRACEPARENT
from stream.dead_letter import dead_letter
from stream.inbox import Record


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
                    override = override._replace(replaces=replaced_version(dict(record.headers)))
                overrides.append(override)
                partitions[override.sku] = record.partition
                continue
            change = read_stock_change(record.value)
            if record.headers:
                headers = dict(record.headers)
                change = change._replace(
                    traceparent=headers.get(TRACEPARENT),
                    repair=REPAIR in headers,
                    replaces=replaced_version(headers),
                )
        except InvalidEvent as reason:
            dead_letters.append(dead_letter(record, reason, consumer))
            continue
        changes.append(change)
        partitions[change.sku] = record.partition
    return found


def _is_for_another(record: Record, consumer: str) -> bool:
    addressee = dict(record.headers).get(REPAIR)
    return addressee is not None and group_id(addressee.decode(errors="replace")) != consumer


def conflate(decoded: Decoded) -> Changes:
    """The latest version of each row, by SKU; earlier ones would be overwritten.

    A row that a snapshot has read is the row as it is: what is kept of its SKU is made good. So it
    is when the auditor says what a row is, or that it is a ghost, whose version may be none of
    Postgres'. A version that it says is false gives way to the record that says so and to whatever
    comes after that: here to those of this batch, and in what is kept by `SkuChanges.replaced`.
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
        if _gives_way(rows.get(change.warehouse), change.version, change.replaces):
            rows[change.warehouse] = level_of(change)
    for operation, sku, channel, override, replaces in decoded.overrides:
        if replaces is not None:
            replaced.setdefault(sku, ({}, {}))[1][channel] = replaces
        if operation is Operation.READ:
            repairs.add(sku)
        own = overrides.setdefault(sku, {})
        if _gives_way(own.get(channel), override.version, replaces):
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


def _gives_way(
    known: StockLevel | ChannelOverride | None, version: int, replaces: int | None
) -> bool:
    """Whether what an earlier record of the batch says gives way to one in this version."""
    return known is None or version > known.version or known.version == replaces
