"""A stock row, and one committed change of it.

Named tuples: a worker makes tens of thousands a second, and a frozen dataclass costs five
times as much to make.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple


class Operation(StrEnum):
    """Debezium's `op`."""

    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"
    """A row read by a snapshot: its state, not a movement."""


class StockRow(NamedTuple):
    """One row of `inventory.stock`, in units of the SKU; times in ms since the epoch."""

    on_hand: int
    reserved: int
    safety_stock: int
    incoming: int
    incoming_at: int | None
    version: int
    reason: str | None = None
    reference: str | None = None
    caused_by: str | None = None

    @property
    def free(self) -> int:
        """Units that this warehouse can promise, never below zero."""
        return max(0, self.on_hand - self.reserved - self.safety_stock)


class StockChange(NamedTuple):
    """A committed change of one stock row.

    Attributes:
        before: the row before it, None for an insert and for a snapshot row.
        after: the row after it, None for a delete.
        committed_us: commit time in µs since the epoch (Debezium `source.ts_us`).
        lsn: the log position, for tracing only; never compared (DESIGN §4.1).
        traceparent: the W3C trace context that its record carried.
        repair: it is the auditor's, of something that Postgres does not have.
        replaces: the version that Redis has of the row and that is none of Postgres', if it is.
    """

    operation: Operation
    sku: str
    warehouse: str
    before: StockRow | None
    after: StockRow | None
    committed_us: int
    lsn: int | None = None
    traceparent: bytes | None = None
    repair: bool = False
    replaces: int | None = None

    @property
    def version(self) -> int:
        """The row's version after this change; a delete counts as the last version + 1."""
        if self.after is not None:
            return self.after.version
        assert self.before is not None
        return self.before.version + 1


class StockLevel(NamedTuple):
    """What the projection keeps of a row: quantities, version, and whether it is deleted."""

    on_hand: int
    reserved: int
    safety_stock: int
    incoming: int
    incoming_at: int | None
    version: int
    committed_us: int
    deleted: bool = False

    @property
    def free(self) -> int:
        """Units that this warehouse can promise, never below zero."""
        return max(0, self.on_hand - self.reserved - self.safety_stock)


def level_of(change: StockChange) -> StockLevel:
    """The level that a change leaves behind; a delete leaves a marker with its version."""
    row = change.after
    if row is None:
        return StockLevel(0, 0, 0, 0, None, change.version, change.committed_us, deleted=True)
    return StockLevel(
        row.on_hand,
        row.reserved,
        row.safety_stock,
        row.incoming,
        row.incoming_at,
        row.version,
        change.committed_us,
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(moment: datetime) -> int:
    """A time as stock rows carry it, in whole ms since the epoch, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)
