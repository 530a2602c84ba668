"""What Postgres holds of one SKU, in the terms of the domain. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from inventory.policy import ChannelOverride, ChannelPolicy, PolicySet
from inventory.stock import StockLevel, StockRow


class CommittedRow(NamedTuple):
    """A stock row as it is committed; `updated_us` is when it changed last, in µs since the epoch.

    It is the time of the statement: the commit came a moment later.
    """

    row: StockRow
    updated_us: int

    @property
    def level(self) -> StockLevel:
        """What the projection keeps of the row."""
        row = self.row
        return StockLevel(
            row.on_hand,
            row.reserved,
            row.safety_stock,
            row.incoming,
            row.incoming_at,
            row.version,
            self.updated_us,
        )


@dataclass(frozen=True)
class SkuFacts:
    """One SKU in Postgres, at one moment.

    Attributes:
        now_us: that moment on Postgres' clock, in µs since the epoch.
        rows: by warehouse.
        policies: of all channels of every kind.
        overrides: what the SKU has of its own, by channel.
    """

    sku: str
    now_us: int
    rows: Mapping[str, CommittedRow]
    policies: tuple[ChannelPolicy, ...]
    overrides: Mapping[str, ChannelOverride]

    @cached_property
    def levels(self) -> Mapping[str, StockLevel]:
        """What the rules are applied to."""
        return {warehouse: committed.level for warehouse, committed in self.rows.items()}

    @cached_property
    def sellers(self) -> PolicySet:
        """The availability channels."""
        return PolicySet.of(self.policies)
