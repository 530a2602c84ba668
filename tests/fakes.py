"""Ports kept in memory, held to the same contract as the real ones (`tests/*_contract.py`)."""

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence, Set
from typing import TypeVar

from inventory.messages import OutgoingMessage
from inventory.policy import ChannelOverride, ChannelPolicy, PolicySet
from inventory.projection import SkuProjection, SkuState, project
from inventory.stock import StockLevel
from projections.ports import Changes, Checkpoint, Written
from stream.lane import Refusal
from stream.publisher import Later

_Row = TypeVar("_Row", StockLevel, ChannelOverride)


class FakeProjector:
    """A `projections.ports.Projector` in memory."""

    def __init__(self) -> None:
        self.states: dict[str, SkuState] = {}
        self.checkpoint: dict[tuple[str, int], int] = {}

    async def write(
        self,
        changes: Changes,
        policies: PolicySet,
        checkpoint: Checkpoint,
        partitions: Collection[int] | None = None,
    ) -> Written:
        self.apply(changes)
        came_from = {s: self.states[s].partition if s in self.states else None for s in changes}
        chosen = [s for s, p in came_from.items() if partitions is None or p in partitions]
        before = {s: self.states[s] for s in chosen if s in self.states}
        unalerted = {s: state.unalerted for s, state in before.items() if state.unalerted}
        projections = [self._project(sku, policies) for sku in chosen]
        for partition, offset in checkpoint.items():
            self.checkpoint[partition] = max(offset, self.checkpoint.get(partition, offset))
        replayed = {p.sku for p, fresh in projections if not fresh}
        overtaken = [p for sku, p in unalerted.items() if sku not in replayed]
        return Written(
            [p for p, _ in projections],
            came_from,
            frozenset(replayed),
            frozenset(unalerted.keys() & replayed),
            tuple(overtaken),
        )

    async def alerted(self, versions: Mapping[str, int]) -> None:
        for sku, version in versions.items():
            self.states[sku] = self.states[sku]._replace(alerted=version)

    def apply(self, changes: Changes) -> None:
        """The first half of a write, where a crash may leave it."""
        for sku, (levels, overrides, partition) in changes.items():
            state = self.states.get(sku, SkuState(sku, 0, {}, None))
            newer_levels = _newer(levels, state.levels)
            newer_overrides = _newer(overrides, state.overrides)
            if newer_levels or newer_overrides:
                self.states[sku] = state._replace(
                    revision=state.revision + 1,
                    levels={**state.levels, **newer_levels},
                    overrides={**state.overrides, **newer_overrides},
                    partition=state.partition if partition is None else partition,
                )

    def _project(self, sku: str, policies: PolicySet) -> tuple[SkuProjection, bool]:
        state = self.states.get(sku, SkuState(sku, 0, {}, None))
        projection = project(state, policies)
        fresh = projection.revision != state.revision
        if fresh:
            self.states[sku] = state._replace(revision=projection.revision, published=projection)
        return projection, fresh


def _newer(given: Mapping[str, _Row], stored: Mapping[str, _Row]) -> dict[str, _Row]:
    return {
        key: row
        for key, row in given.items()
        if key not in stored or row.version > stored[key].version
    }


class FakePublisher:
    """A `stream.publisher.Publisher` in memory; everything is acknowledged at once.

    Attributes:
        closed: topics that refuse, until `reopen` finds them here no longer.
    """

    def __init__(self) -> None:
        self.published: list[OutgoingMessage] = []
        self.closed: set[str] = set()
        self.reason = "closed by the test"
        self._refusals: dict[str, Refusal] = {}

    async def publish(self, messages: Sequence[OutgoingMessage]) -> Awaitable[frozenset[str]]:
        refused = {m.topic for m in messages} & (self.closed | self._refusals.keys())
        for topic in refused:
            self._refusals.setdefault(topic, Refusal(self.reason, 0.0, 1, 0.0))
        self.published += [m for m in messages if m.topic not in refused]
        return Later(lambda: _known(frozenset(refused)))

    def refusals(self) -> Mapping[str, Refusal]:
        return dict(self._refusals)

    def reopen(self, topic: str) -> bool:
        self._refusals.pop(topic, None)
        return True


async def _known(refused: frozenset[str]) -> frozenset[str]:
    return refused


class FakeChannels:
    """`stream.agents.availability.Channels` in memory: every channel has been told everything."""

    def __init__(self, *policies: ChannelPolicy) -> None:
        self._policies = PolicySet.of(policies)
        self.missed: list[tuple[set[str], set[int]]] = []

    async def policies(self, partitions: Collection[int]) -> PolicySet:
        return self._policies

    def is_whole(self, partition: int, channel: str) -> bool:
        return True

    async def behind(self, topics: Iterable[str], partitions: Iterable[int]) -> None:
        self.missed.append((set(topics), set(partitions)))


class Idle:
    """A `stream.pipeline.Background` that has nothing to do."""

    def ready(self) -> bool:
        return False

    async def step(self) -> Awaitable[None]:
        raise AssertionError("nobody asked for this")


class FakeAlertLog:
    """A `stream.alerts.AlertLog` in memory."""

    def __init__(self, *ids: str) -> None:
        self.ids = set(ids)
        self.asked: list[set[str]] = []

    async def published(self, ids: Set[str], since_us: int) -> set[str]:
        self.asked.append(set(ids))
        return self.ids & ids
