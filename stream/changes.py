"""From raw records to changes, and those that cannot be read."""

from collections.abc import Iterable
from typing import NamedTuple

from connectors.envelope import read_stock_change
from connectors.policy_envelope import OverrideChange, read_override_change
from inventory.errors import InvalidEvent
from inventory.groups import REPAIR, group_id
from inventory.messages import OutgoingMessage
from inventory.policy import ChannelOverride
from inventory.stock import Operation, StockChange, StockLevel, level_of
from inventory.topics import CHANNEL_SKU
from projections.ports import Changes, SkuChanges
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
                overrides.append(override)
                partitions[override.sku] = record.partition
                continue
            change = read_stock_change(record.value)
        except InvalidEvent as reason:
            dead_letters.append(dead_letter(record, reason, consumer))
            continue
        if record.headers:
            headers = dict(record.headers)
            change = change._replace(traceparent=headers.get(TRACEPARENT), repair=REPAIR in headers)
        changes.append(change)
        partitions[change.sku] = record.partition
    return found


def _is_for_another(record: Record, consumer: str) -> bool:
    addressee = dict(record.headers).get(REPAIR)
    return addressee is not None and group_id(addressee.decode(errors="replace")) != consumer


def conflate(decoded: Decoded) -> Changes:
    """The latest version of each row, by SKU; earlier ones would be overwritten.

    A row that a snapshot has read is the row as it is: what is kept of its SKU is made good. So it
    is when the auditor says that a row is a ghost; its version is none of Postgres'.
    """
    repairs: set[str] = set()
    ghosts: set[str] = set()
    levels: dict[str, dict[str, StockLevel]] = {}
    overrides: dict[str, dict[str, ChannelOverride]] = {}
    for change in decoded.changes:
        if change.operation is Operation.READ or change.repair:
            repairs.add(change.sku)
        if change.repair:
            ghosts.add(change.sku)
        rows = levels.setdefault(change.sku, {})
        known = rows.get(change.warehouse)
        if known is None or change.version > known.version:
            rows[change.warehouse] = level_of(change)
    for operation, sku, channel, override in decoded.overrides:
        if operation is Operation.READ:
            repairs.add(sku)
        own = overrides.setdefault(sku, {})
        if channel not in own or override.version > own[channel].version:
            own[channel] = override
    return {
        sku: SkuChanges(
            levels.get(sku, {}), overrides.get(sku, {}), partition, sku in repairs, sku in ghosts
        )
        for sku, partition in decoded.partitions.items()
    }
