"""From a SKU's rows to what every channel is told of it: pure, so replay and repair share it.

Named tuples where a worker makes many, as in `inventory.stock`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from inventory.availability import crossing, promises
from inventory.policy import NO_OVERRIDES, ChannelOverride, PolicySet
from inventory.stock import StockLevel
from stockwire_client.contract import AlertKind, Status


class ChannelState(NamedTuple):
    """What one channel is told of one SKU.

    Attributes:
        previous_available: what the state before it said; None if the SKU was not listed.
        version: hybrid logical clock in µs; it only rises per SKU (DESIGN guarantee 3).
        committed_us: commit time in µs since the epoch of the latest change behind it.
        restock_at: in ms since the epoch.
        backorderable: units to be sold in advance, when nothing is available.
        order_limit: the most that one order may take.
        previous_status: as `previous_available`.
    """

    available: int
    status: Status
    previous_available: int | None
    version: int
    committed_us: int
    restock_at: int | None
    backorderable: int
    order_limit: int
    previous_status: Status | None

    @property
    def alert(self) -> AlertKind | None:
        """The threshold that this state has crossed."""
        return crossing(self.previous_status, self.status)


class SkuProjection(NamedTuple):
    """What all availability channels are told of one SKU.

    Attributes:
        revision: of the SKU's working state, counted up by every write of it.
        fingerprint: of the policies it was computed with.
        version: the clock of this projection, in µs; also that of its tombstones.
        committed_us: commit time in µs since the epoch of the latest change of the SKU or of what
            the channels may sell of it.
        channels: by channel name. None is a tombstone: the SKU was listed there and no longer is,
            or the channel is gone. A channel that came later and never listed it is absent.
    """

    sku: str
    revision: int
    fingerprint: str
    version: int
    committed_us: int
    channels: Mapping[str, ChannelState | None]

    @property
    def crosses(self) -> bool:
        """Whether it raises an alert on any channel."""
        return any(
            state is not None
            and state.status is not state.previous_status
            and state.alert is not None
            for state in self.channels.values()
        )


class SkuState(NamedTuple):
    """What is kept of one SKU.

    Attributes:
        levels: by warehouse, deleted rows included.
        published: the last projection that was written, None before the first.
        overrides: what it has of its own, by channel, deleted rows included.
        partition: of the stock topic, that its latest change came from; None before the first.
        alerted: version of the last projection whose alerts are known to be published.
        unreadable: fields that no writer of ours has written. A row among them is a deleted one in
            `levels`, and an override blocks the SKU: too little is promised, never too much.
    """

    sku: str
    revision: int
    levels: Mapping[str, StockLevel]
    published: SkuProjection | None
    overrides: Mapping[str, ChannelOverride] = NO_OVERRIDES
    partition: int | None = None
    alerted: int = 0
    unreadable: tuple[str, ...] = ()

    @property
    def unalerted(self) -> SkuProjection | None:
        """The last projection, if it raises alerts that are not known to be published."""
        last = self.published
        return last if last is not None and self.alerted < last.version and last.crosses else None


def project(state: SkuState, policies: PolicySet) -> SkuProjection:
    """What the channels are told of a SKU in this state.

    The last projection comes back as it is, versions and all, when it already holds this revision
    under these policies: a replay after a crash publishes it again (DESIGN guarantee 2).
    Otherwise the result has the next revision, and a version above the last one.

    Without a last projection nobody knows what a channel was told (Redis may have lost it): one
    that does not list the SKU gets a tombstone.

    Tombstones and unchanged channels are repeated in every projection: whether the last one was
    ever published is not known. A SKU without any rows keeps its revision and has no channels.
    """
    if not state.levels:
        return SkuProjection(state.sku, state.revision, policies.fingerprint, 0, 0, {})
    last = state.published
    if last is not None and is_current(last, state.revision, policies):
        return last
    committed_us = _committed_us(state, policies)
    version = committed_us if last is None else max(committed_us, last.version + 1)
    told = {} if last is None else last.channels
    previous = {name: before.status for name, before in told.items() if before is not None}
    channels: dict[str, ChannelState | None] = {}
    for name, now in promises(state.levels, state.overrides, policies.policies, previous).items():
        before = told.get(name)
        if now is not None:
            channels[name] = ChannelState(
                now.available,
                now.status,
                None if before is None else before.available,
                version,
                committed_us,
                now.restock_at,
                now.backorderable,
                now.order_limit,
                None if before is None else before.status,
            )
        elif last is None or name in told:
            channels[name] = None
    for name in policies.departed:
        if last is None or name in told:
            channels[name] = None
    return SkuProjection(
        state.sku, state.revision + 1, policies.fingerprint, version, committed_us, channels
    )


def _committed_us(state: SkuState, policies: PolicySet) -> int:
    latest = max(level.committed_us for level in state.levels.values())
    for override in state.overrides.values():
        latest = max(latest, override.committed_us)
    return max(latest, policies.committed_us)


def is_current(projection: SkuProjection, revision: int, policies: PolicySet) -> bool:
    """Whether a projection holds this revision of the SKU, under these policies."""
    return projection.revision == revision and projection.fingerprint == policies.fingerprint
