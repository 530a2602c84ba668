"""How many units of a SKU a channel may promise: the only place where that is computed.

A SKU's ring-fences are set aside first, each from its channel's warehouses in their order of
priority, so that all that is held is physically there. Of what is left each channel has a buffer
and a share. See docs/decisions/0009-availability.md for the order of the steps.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from inventory.policy import (
    SHARE_UNITS,
    ChannelOverride,
    ChannelPolicy,
    with_override,
)
from inventory.stock import StockLevel
from stockwire_client.contract import AlertKind, Status

#: Units by warehouse.
Units = Mapping[str, int]


_NOTHING_HELD: Mapping[str, Units] = MappingProxyType({})


class Waterfall(NamedTuple):
    """From physical stock to what a channel may promise of a SKU, in units.

    Attributes:
        free: Σ max(0, on hand - reserved - safety stock) over the channel's warehouses.
        others: of that, ring-fenced for other channels.
        own: of that, ring-fenced for this channel.
        buffered: what is left of the pool (free - others - own) under the buffer.
        shared: the channel's part of it, rounded down.
        shortfall: Σ max(0, reserved - on hand): sold in advance already.
    """

    free: int
    others: int
    own: int
    buffered: int
    shared: int
    shortfall: int

    @property
    def pool(self) -> int:
        """What no channel has for itself."""
        return self.free - self.others - self.own

    @property
    def available(self) -> int:
        """What the channel may promise, unless it or the SKU is blocked."""
        return self.shared + self.own


class Availability(NamedTuple):
    """What a channel may promise of a SKU, in units; `restock_at` in ms since the epoch.

    Attributes:
        backorderable: to be sold in advance; 0 while anything is available.
        order_limit: the most that one order may take.
    """

    available: int
    status: Status
    restock_at: int | None
    backorderable: int
    order_limit: int


_CHANNEL_BLOCKED = Availability(0, Status.CHANNEL_BLOCKED, None, 0, 0)
_SKU_BLOCKED = Availability(0, Status.SKU_BLOCKED, None, 0, 0)


def promises(
    levels: Mapping[str, StockLevel],
    overrides: Mapping[str, ChannelOverride],
    policies: Iterable[ChannelPolicy],
    previous: Mapping[str, Status],
) -> dict[str, Availability | None]:
    """What each channel may promise of a SKU.

    Args:
        levels: the SKU's rows, by warehouse.
        overrides: what it has of its own, by channel.
        policies: of all availability channels.
        previous: the status that each channel was told last, for the hysteresis.

    Returns:
        By channel; None where the SKU has no row in any of the channel's warehouses.
    """
    held = _NOTHING_HELD
    if overrides:
        policies = tuple(policies)
        held = ring_fences(levels, overrides, policies)
    # Most channels sell from the same warehouses: these are added up once.
    sums: dict[tuple[str, ...] | None, _Sum | None] = {}
    told: dict[str, Availability | None] = {}
    for policy in policies:
        name, warehouses = policy.name, policy.warehouses
        if warehouses not in sums:
            sums[warehouses] = _sum(levels, warehouses)
        told[name] = _promise(
            sums[warehouses], policy, overrides.get(name), held, previous.get(name)
        )
    return told


def availability(
    levels: Mapping[str, StockLevel],
    policy: ChannelPolicy,
    override: ChannelOverride | None = None,
    held: Mapping[str, Units] = _NOTHING_HELD,
    previous: Status | None = None,
) -> Availability | None:
    """What one channel may promise of a SKU, given the SKU's level in each warehouse.

    Without ring-fences (DESIGN §3):

        free      = Σ over the channel's warehouses of max(0, on_hand - reserved - safety_stock)
        available = max(0, floor(share × (free - buffer)))

    Args:
        levels: the SKU's rows, by warehouse.
        policy: of the channel.
        override: what the SKU has of its own there.
        held: what is ring-fenced for each channel, as `ring_fences` gives it.
        previous: the status that the channel was told last.

    Returns:
        None when the SKU has no row in any of the channel's warehouses.
    """
    return _promise(_sum(levels, policy.warehouses), policy, override, held, previous)


def waterfall(
    levels: Mapping[str, StockLevel],
    policy: ChannelPolicy,
    held: Mapping[str, Units] = _NOTHING_HELD,
) -> Waterfall | None:
    """The steps to what a channel may promise; None where the SKU is not listed.

    Args:
        levels: the SKU's rows, by warehouse.
        policy: with the SKU's override in it.
        held: what is ring-fenced for each channel, as `ring_fences` gives it.
    """
    found = _sum(levels, policy.warehouses)
    if found is None:
        return None
    free, shortfall, _ = found
    return Waterfall(free, *_deduct(free, policy, held), shortfall)


#: Free units, shortfall, and when the first that are on their way arrive.
_Sum = tuple[int, int, int | None]


def _sum(levels: Mapping[str, StockLevel], warehouses: tuple[str, ...] | None) -> _Sum | None:
    """What a SKU has in these warehouses together; None where it has no row in any."""
    free = shortfall = 0
    listed = False
    restock_at: int | None = None
    for warehouse, level in levels.items():
        if level.deleted or (warehouses is not None and warehouse not in warehouses):
            continue
        listed = True
        left = level.on_hand - level.reserved
        if left < 0:
            shortfall -= left
        if left > level.safety_stock:
            free += left - level.safety_stock
        arrives = level.incoming_at
        if arrives is not None and level.incoming > 0:
            restock_at = arrives if restock_at is None else min(restock_at, arrives)
    return (free, shortfall, restock_at) if listed else None


def _deduct(
    free: int, policy: ChannelPolicy, held: Mapping[str, Units]
) -> tuple[int, int, int, int]:
    """Of what is free: fenced for others, for this channel, left under the buffer, its share."""
    own = others = 0
    for channel, units in held.items():
        if channel == policy.name:
            own = sum(units.values())
        else:
            others += sum(n for code, n in units.items() if policy.sells_from(code))
    buffered = max(0, free - others - own - policy.buffer)
    return others, own, buffered, buffered * policy.share // SHARE_UNITS


def _promise(
    found: _Sum | None,
    policy: ChannelPolicy,
    override: ChannelOverride | None,
    held: Mapping[str, Units],
    previous: Status | None,
) -> Availability | None:
    if found is None:
        return None
    if policy.blocked:
        return _CHANNEL_BLOCKED
    if override is not None:
        if override.blocked and not override.deleted:
            return _SKU_BLOCKED
        policy = with_override(policy, override)
    free, shortfall, restock_at = found
    _, own, _, shared = _deduct(free, policy, held)
    available = shared + own
    backorderable = 0 if available else max(0, policy.backorder_limit - shortfall)
    limit = available or backorderable
    if policy.max_per_order is not None:
        limit = min(limit, policy.max_per_order)
    status = _status(available, backorderable, policy, previous)
    return Availability(available, status, restock_at, backorderable, limit)


def ring_fences(
    levels: Mapping[str, StockLevel],
    overrides: Mapping[str, ChannelOverride],
    policies: Iterable[ChannelPolicy],
) -> dict[str, dict[str, int]]:
    """What is physically held for each channel, by channel and warehouse.

    Channels are served in order of their priority, then of their names. When there is not enough
    for all, the last ones hold less: the units held never exceed those that are free. What may not
    be sold is not held.
    """
    fenced = [
        (policy, override.ring_fence)
        for policy in policies
        if not policy.blocked
        and (override := overrides.get(policy.name)) is not None
        and override.ring_fence > 0
        and not (override.deleted or override.blocked)
    ]
    left = {code: level.free for code, level in levels.items() if not level.deleted}
    held: dict[str, dict[str, int]] = {}
    for policy, wanted in sorted(fenced, key=lambda item: (item[0].priority, item[0].name)):
        units = held[policy.name] = {}
        for code in sorted(left) if policy.warehouses is None else policy.warehouses:
            taken = min(wanted, left.get(code, 0))
            if taken:
                units[code] = taken
                left[code] -= taken
                wanted -= taken
    return held


#: From these, stock must rise above the threshold by the hysteresis before it counts as plenty.
_SCARCE = frozenset({Status.LOW_STOCK, Status.OUT_OF_STOCK, Status.BACKORDER})
_SOLD_OUT = frozenset({Status.OUT_OF_STOCK, Status.BACKORDER})
_BLOCKED = frozenset({Status.CHANNEL_BLOCKED, Status.SKU_BLOCKED})


def _status(
    available: int, backorderable: int, policy: ChannelPolicy, previous: Status | None
) -> Status:
    if available == 0:
        return Status.BACKORDER if backorderable else Status.OUT_OF_STOCK
    threshold = policy.low_stock_threshold
    if previous in _SCARCE:
        threshold += policy.low_stock_hysteresis
    return Status.LOW_STOCK if available <= threshold else Status.IN_STOCK


def crossing(previous: Status | None, status: Status) -> AlertKind | None:
    """What to raise an alert about when a status follows another; None for no crossing.

    A SKU that was not listed, and one that is or was blocked, has crossed nothing.
    """
    if previous is None or previous in _BLOCKED or status in _BLOCKED:
        return None
    if status in _SOLD_OUT:
        return None if previous in _SOLD_OUT else AlertKind.OUT_OF_STOCK
    if previous in _SOLD_OUT:
        return AlertKind.BACK_IN_STOCK
    if status is Status.LOW_STOCK and previous is Status.IN_STOCK:
        return AlertKind.LOW_STOCK
    return None
