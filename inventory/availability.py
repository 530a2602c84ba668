"""How many units of a SKU a channel may promise: the only place where that is computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from inventory.errors import PolicyError
from inventory.stock import StockLevel

#: `share` is numeric(5,4) in Postgres, so ten-thousandths hold it exactly.
SHARE_UNITS = 10_000


class Status(StrEnum):
    """What a storefront shows."""

    IN_STOCK = "in_stock"
    LOW_STOCK = "low_stock"
    OUT_OF_STOCK = "out_of_stock"
    BACKORDER = "backorder"


class ChannelKind(StrEnum):
    """What a channel is told."""

    AVAILABILITY = "availability"
    LEVEL = "level"
    MOVEMENT = "movement"


@dataclass(frozen=True, slots=True)
class ChannelPolicy:
    """A row of `inventory.channel`.

    Attributes:
        warehouses: the warehouses it sells from; None means all.
        buffer: units held back from the channel.
        share: part of what is left that the channel may sell, in ten-thousandths.
        low_stock_threshold: at this many units and below, stock is low.
    """

    name: str
    kind: ChannelKind
    topic: str
    warehouses: frozenset[str] | None = None
    buffer: int = 0
    share: int = SHARE_UNITS
    low_stock_threshold: int = 5

    def sells_from(self, warehouse: str) -> bool:
        """Whether the channel sells from this warehouse."""
        return self.warehouses is None or warehouse in self.warehouses


class Availability(NamedTuple):
    """What a channel may promise of a SKU; `restock_at` in ms since the epoch."""

    available: int
    status: Status
    restock_at: int | None = None


def share_units(share: str | Decimal) -> int:
    """A share from Postgres, 0 to 1 with four decimals, in ten-thousandths.

    Raises:
        PolicyError: it is outside 0 to 1 or has more decimals.
    """
    units = Decimal(share) * SHARE_UNITS
    if not 0 <= units <= SHARE_UNITS or units != int(units):
        raise PolicyError(f"share {share} is not between 0 and 1 with at most four decimals")
    return int(units)


def availability(levels: Mapping[str, StockLevel], policy: ChannelPolicy) -> Availability | None:
    """What a channel may promise of a SKU, given the SKU's level in each warehouse.

        free      = Σ over the channel's warehouses of max(0, on_hand - reserved - safety_stock)
        available = max(0, floor(share × (free - buffer)))

    Returns None when the SKU has no row in any of the channel's warehouses (DESIGN §3).
    """
    free = 0
    listed = False
    restock_at: int | None = None
    sold_from = policy.warehouses  # as in `sells_from`; a call for each row is half the cost here
    for warehouse, level in levels.items():
        if level.deleted or (sold_from is not None and warehouse not in sold_from):
            continue
        listed = True
        free += level.free
        arrives = level.incoming_at
        if level.incoming > 0 and arrives is not None:
            restock_at = arrives if restock_at is None else min(restock_at, arrives)
    if not listed:
        return None
    available = max(0, (free - policy.buffer) * policy.share // SHARE_UNITS)
    return Availability(available, _status(available, policy), restock_at)


def _status(available: int, policy: ChannelPolicy) -> Status:
    if available == 0:
        return Status.OUT_OF_STOCK
    if available <= policy.low_stock_threshold:
        return Status.LOW_STOCK
    return Status.IN_STOCK
