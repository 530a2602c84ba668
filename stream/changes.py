"""From raw records to stock changes, and those that cannot be read."""

from collections.abc import Iterable
from typing import NamedTuple

from connectors.envelope import read_stock_change
from inventory.errors import InvalidEvent
from inventory.messages import OutgoingMessage
from inventory.stock import StockChange, StockLevel, level_of
from stream.dead_letter import dead_letter
from stream.inbox import Record


class Decoded(NamedTuple):
    """The changes of a batch in order, and a dead letter for each record that is none."""

    changes: list[StockChange]
    dead_letters: list[OutgoingMessage]


def decode(records: Iterable[Record], consumer: str) -> Decoded:
    """Read each record; a tombstone follows its delete event and says nothing new."""
    changes: list[StockChange] = []
    dead_letters: list[OutgoingMessage] = []
    for record in records:
        if record.value is None:
            continue
        try:
            changes.append(read_stock_change(record.value))
        except InvalidEvent as reason:
            dead_letters.append(dead_letter(record, reason, consumer))
    return Decoded(changes, dead_letters)


def conflate(changes: Iterable[StockChange]) -> dict[str, dict[str, StockLevel]]:
    """The latest level of each row, by SKU and warehouse; earlier ones would be overwritten."""
    latest: dict[str, dict[str, StockLevel]] = {}
    for change in changes:
        rows = latest.setdefault(change.sku, {})
        known = rows.get(change.warehouse)
        if known is None or change.version > known.version:
            rows[change.warehouse] = level_of(change)
    return latest
