"""Ports kept in memory, held to the same contract as the real ones (`tests/*_contract.py`)."""

from collections.abc import Awaitable, Sequence

from inventory.messages import OutgoingMessage
from inventory.projection import PolicySet, SkuProjection, SkuState, project
from projections.ports import Changes, Checkpoint


class FakeProjector:
    """A `projections.ports.Projector` in memory."""

    def __init__(self) -> None:
        self.states: dict[str, SkuState] = {}
        self.checkpoint: dict[tuple[str, int], int] = {}

    async def write(
        self, changes: Changes, policies: PolicySet, checkpoint: Checkpoint
    ) -> list[SkuProjection]:
        self.apply(changes)
        projections = [self._project(sku, policies) for sku in changes]
        for partition, offset in checkpoint.items():
            self.checkpoint[partition] = max(offset, self.checkpoint.get(partition, offset))
        return projections

    def apply(self, changes: Changes) -> None:
        """The first half of a write, where a crash may leave it."""
        for sku, levels in changes.items():
            state = self.states.get(sku, SkuState(sku, 0, {}, None))
            newer = {
                warehouse: level
                for warehouse, level in levels.items()
                if warehouse not in state.levels or level.version > state.levels[warehouse].version
            }
            if newer:
                self.states[sku] = state._replace(
                    revision=state.revision + 1, levels={**state.levels, **newer}
                )

    def _project(self, sku: str, policies: PolicySet) -> SkuProjection:
        state = self.states.get(sku, SkuState(sku, 0, {}, None))
        projection = project(state, policies)
        if projection.revision != state.revision:
            self.states[sku] = state._replace(revision=projection.revision, published=projection)
        return projection


class FakePublisher:
    """A `stream.publisher.Publisher` in memory; everything is acknowledged at once."""

    def __init__(self) -> None:
        self.published: list[OutgoingMessage] = []

    async def publish(self, messages: Sequence[OutgoingMessage]) -> Awaitable[None]:
        self.published.extend(messages)
        return acknowledged()


async def acknowledged() -> None:
    """Nothing left to wait for."""
