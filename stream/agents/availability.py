"""Stock changes become availability in Redis, and messages for the channels that show it."""

from collections.abc import Awaitable

from stamina import retry_context

from inventory.availability import ChannelKind
from inventory.errors import Outage
from inventory.messages import availability_messages
from inventory.projection import PolicySet, SkuProjection
from projections.ports import Changes, Projector
from stream.changes import conflate, decode
from stream.inbox import Batch
from stream.policy import PolicyTable
from stream.publisher import Publisher


class AvailabilityAgent:
    """Writes the projection first and publishes second: the replay of a crash between publishes."""

    name = "stockwire-availability"

    def __init__(self, policies: PolicyTable, projector: Projector, publisher: Publisher) -> None:
        """Work with these ports."""
        self._policies = policies
        self._projector = projector
        self._publisher = publisher

    async def __call__(self, batch: Batch) -> Awaitable[None]:
        """Apply a batch; await the result to know that its messages are acknowledged."""
        policies = PolicySet.of(self._policies.of_kind(ChannelKind.AVAILABILITY))
        changes, messages = decode(batch.records, self.name)
        for projection in await self._write(conflate(changes), policies, batch):
            messages += availability_messages(projection, policies.policies)
        return await self._publisher.publish(messages)

    async def _write(
        self, changes: Changes, policies: PolicySet, batch: Batch
    ) -> list[SkuProjection]:
        async for attempt in retry_context(
            on=Outage, attempts=None, timeout=None, wait_initial=0.05, wait_jitter=0.1, wait_max=2.0
        ):
            with attempt:
                return await self._projector.write(changes, policies, batch.positions)
        raise AssertionError("unreachable: retried without end")
