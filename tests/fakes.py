"""Ports kept in memory, held to the same contract as the real ones (`tests/*_contract.py`)."""

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence, Set
from typing import TypeVar

from inventory.errors import ProjectionLost
from inventory.messages import OutgoingMessage
from inventory.policy import ChannelOverride, ChannelPolicy, PolicySet
from inventory.projection import SkuProjection, SkuState, project
from inventory.stock import StockLevel
from projections.checkpoint import CheckpointState
from projections.ports import Changes, Checkpoint, Written
from stream.lane import Refusal
from stream.publisher import Later

_Row = TypeVar("_Row", StockLevel, ChannelOverride)


class FakeProjector:
    """A `projections.ports.Projector` in memory."""

    def __init__(self) -> None:
        self.states: dict[str, SkuState] = {}
        self.checkpoint: dict[tuple[str, int], int] = {}
        self.version: int | None = None
        self.restoring: set[int] = set()
        self.known: dict[tuple[str, int], int] = {}
        self.loading: frozenset[int] = frozenset()
        self.loaded: set[int] = set()

    def begin(self, known: Checkpoint, restoring: Collection[int] = ()) -> None:
        self.known, self.loading = dict(known), frozenset(restoring)

    async def check(self) -> None:
        lost = [p for p, least in self.known.items() if self.checkpoint.get(p, 0) < least]
        if lost or not self.loading <= self.restoring:
            raise ProjectionLost(f"the test has lost {lost}")

    async def load(self, changes: Changes, checkpoint: Checkpoint) -> None:
        self.apply(changes)
        await self._raise(changes, checkpoint)

    async def write(
        self,
        changes: Changes,
        policies: PolicySet,
        checkpoint: Checkpoint,
        partitions: Collection[int] | None = None,
    ) -> Written:
        self.apply(changes)
        await self.check()
        came_from = {s: self.states[s].partition if s in self.states else None for s in changes}
        chosen = [s for s, p in came_from.items() if partitions is None or p in partitions]
        before = {s: self.states[s] for s in chosen if s in self.states}
        unalerted = {s: state.unalerted for s, state in before.items() if state.unalerted}
        projections = [self._project(sku, policies) for sku in chosen]
        await self._raise(changes, checkpoint)
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
        for sku, (levels, overrides, partition, repair, _, replaced) in changes.items():
            state = self.states.get(sku, SkuState(sku, 0, {}, None))
            newer_levels = _newer(levels, state.levels, repair, replaced.levels)
            newer_overrides = _newer(overrides, state.overrides, repair, replaced.overrides)
            if newer_levels or newer_overrides or repair:
                self.states[sku] = state._replace(
                    revision=state.revision + 1,
                    levels={**state.levels, **newer_levels},
                    overrides={**state.overrides, **newer_overrides},
                    partition=state.partition if partition is None else partition,
                )

    async def _raise(self, changes: Changes, checkpoint: Checkpoint) -> None:
        if not checkpoint:
            return
        await self.check()
        for partition, offset in checkpoint.items():
            self.checkpoint[partition] = max(offset, self.checkpoint.get(partition, offset))
            self.known[partition] = max(offset, self.known.get(partition, offset))
        rows = (each.levels.values() for each in changes.values() if not each.ghost)
        versions = [level.version for levels in rows for level in levels]
        self.version = max([*versions, self.version or 0]) or None

    def _project(self, sku: str, policies: PolicySet) -> tuple[SkuProjection, bool]:
        state = self.states.get(sku, SkuState(sku, 0, {}, None))
        projection = project(state, policies)
        fresh = projection.revision != state.revision
        if fresh:
            self.states[sku] = state._replace(revision=projection.revision, published=projection)
        return projection, fresh


def _newer(
    given: Mapping[str, _Row],
    stored: Mapping[str, _Row],
    repair: bool,
    replaced: Mapping[str, int],
) -> dict[str, _Row]:
    return {
        key: row
        for key, row in given.items()
        if key not in stored
        or row.version + repair > stored[key].version
        or replaced.get(key) == stored[key].version
    }


class FakeCheckpoints:
    """What is kept beside a `FakeProjector`, as `projections.checkpoint.Checkpoints` has it."""

    def __init__(self, projector: FakeProjector) -> None:
        self.projector = projector
        self.run = "run-1"

    async def begin(self) -> CheckpointState:
        kept = self.projector
        return CheckpointState(
            dict(kept.checkpoint), kept.version, frozenset(kept.restoring), frozenset(kept.loaded)
        )

    async def restore(self, partitions: Collection[int], topics: Collection[str]) -> None:
        for partition in partitions:
            for topic in topics:
                self.projector.checkpoint.pop((topic, partition), None)
        self.projector.restoring.update(partitions)

    async def restored(self, partitions: Collection[int]) -> None:
        self.projector.loading -= frozenset(partitions)
        self.projector.restoring.difference_update(partitions)
        self.projector.loaded.update(partitions)

    async def run_id(self) -> str:
        return self.run


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


class NothingLost:
    """`stream.agents.availability.Restoring` of a worker whose Redis is whole."""

    restoring: Collection[int] = frozenset()

    async def loaded(self, positions: Checkpoint) -> None:
        raise AssertionError("nothing is restored")

    def written(self, positions: Checkpoint) -> None:
        """Nothing was lost."""


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
