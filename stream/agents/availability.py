"""Stock changes become availability in Redis, and messages for the channels that show it."""

from collections.abc import Awaitable, Collection, Iterable, Mapping
from typing import Protocol

from inventory.groups import AVAILABILITY, group_id
from inventory.messages import IN_SNAPSHOT, Header, OutgoingMessage, availability_messages
from inventory.policy import PolicySet
from inventory.projection import SkuProjection
from inventory.stock import StockChange
from projections.ports import Changes, Checkpoint, Projector
from stockwire_client.contract import TRACEPARENT
from stream.alerts import Alerts, alerted
from stream.changes import conflate, decode
from stream.inbox import Batch
from stream.publisher import Later, Publisher
from stream.retry import until_it_works


class Channels(Protocol):
    """What is to be known of the channels, and to be remembered of them (`stream.told`)."""

    async def policies(self, partitions: Collection[int]) -> PolicySet:
        """All availability channels, and those that are gone and may not have heard of it."""
        ...

    def is_whole(self, partition: int, channel: str) -> bool:
        """Whether the channel was told of all SKUs of a partition; else it is being told."""
        ...

    async def behind(self, topics: Iterable[str], partitions: Iterable[int]) -> None:
        """Note, before anything is committed, that these topics have missed something."""
        ...


class Restoring(Protocol):
    """Which partitions have lost their projection, and are loaded again (`stream.recovery`)."""

    @property
    def restoring(self) -> Collection[int]:
        """Partition numbers of which nothing may be projected yet."""
        ...

    async def loaded(self, positions: Checkpoint) -> None:
        """Note how far these are loaded."""
        ...

    def written(self, positions: Checkpoint) -> None:
        """Note how far these are projected."""
        ...


class AvailabilityAgent:
    """Writes the projection first and publishes second: the replay of a crash between publishes."""

    name = group_id(AVAILABILITY)

    def __init__(
        self,
        channels: Channels,
        projector: Projector,
        publisher: Publisher,
        alerts: Alerts,
        recovery: Restoring,
    ) -> None:
        """Work with these ports."""
        self._channels = channels
        self._projector = projector
        self._publisher = publisher
        self._alerts = alerts
        self._recovery = recovery

    async def __call__(self, batch: Batch) -> Awaitable[None]:
        """Apply a batch; await the result to know that its effects are acknowledged."""
        decoded = decode(batch.records, self.name)
        changes, positions = await self._load(conflate(decoded), batch.positions)
        partitions = {decoded.partitions[sku] for sku in changes}
        policies = await self._channels.policies(partitions)
        written = await until_it_works(lambda: self._projector.write(changes, policies, positions))
        self._recovery.written(positions)
        messages = [*decoded.dead_letters]
        traces = _traces(decoded.changes)
        for projection in written.projections:
            partition = decoded.partitions[projection.sku]
            messages += self._messages(projection, policies, partition, traces)
        messages += await until_it_works(lambda: self._alerts.of(written))
        receipt = await self._publisher.publish(messages)
        return Later(lambda: self._settle(batch, receipt, alerted(written.projections)))

    async def _load(self, changes: Changes, positions: Checkpoint) -> tuple[Changes, Checkpoint]:
        """Load what belongs to partitions that are restored; what is left to be projected."""
        restoring = frozenset(self._recovery.restoring)
        if not restoring:
            return changes, positions
        rows = {sku: each for sku, each in changes.items() if each.partition in restoring}
        ends = {place: offset for place, offset in positions.items() if place[1] in restoring}
        await until_it_works(lambda: self._projector.load(rows, ends))
        await self._recovery.loaded(ends)
        return (
            {sku: each for sku, each in changes.items() if sku not in rows},
            {place: offset for place, offset in positions.items() if place not in ends},
        )

    def _messages(
        self,
        projection: SkuProjection,
        policies: PolicySet,
        partition: int,
        traces: Mapping[str, tuple[Header, ...]],
    ) -> Iterable[OutgoingMessage]:
        marks = traces.get(projection.sku, ())
        joining: list[tuple[str, str]] = []
        whole: list[tuple[str, str]] = []
        for policy in policies.policies:
            told = whole if self._channels.is_whole(partition, policy.name) else joining
            told.append((policy.name, policy.topic))
        whole += policies.departed.items()
        messages = availability_messages(projection, whole, marks)
        if joining:
            messages += availability_messages(projection, joining, (*IN_SNAPSHOT, *marks))
        return messages

    async def _settle(
        self, batch: Batch, receipt: Awaitable[frozenset[str]], alerts: Mapping[str, int]
    ) -> None:
        refused = await receipt
        if refused:
            partitions = {partition for _, partition in batch.positions}
            await self._channels.behind(refused, partitions)
        if alerts:
            await until_it_works(lambda: self._projector.alerted(alerts))


def _traces(changes: Iterable[StockChange]) -> dict[str, tuple[Header, ...]]:
    """By SKU, the trace context of its latest change that carries one."""
    return {
        change.sku: ((TRACEPARENT, change.traceparent),)
        for change in changes
        if change.traceparent is not None
    }
