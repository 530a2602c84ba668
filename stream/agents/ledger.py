"""Every stock change, told to warehouse systems as a level and to ledgers as a movement."""

from collections.abc import Awaitable, Callable
from types import MappingProxyType

from inventory.availability import ChannelKind, ChannelPolicy
from inventory.messages import OutgoingMessage, level_message, movement_message, timestamp
from inventory.stock import StockChange
from stream.changes import decode
from stream.inbox import Batch
from stream.policy import PolicyTable
from stream.publisher import Publisher

_MESSAGE: MappingProxyType[
    ChannelKind, Callable[[StockChange, ChannelPolicy, str], OutgoingMessage]
] = MappingProxyType(
    {ChannelKind.LEVEL: level_message, ChannelKind.MOVEMENT: movement_message},
)


class LedgerAgent:
    """Needs only Kafka: a pure map of each change, none left out and none merged."""

    name = "stockwire-ledger"

    def __init__(self, policies: PolicyTable, publisher: Publisher) -> None:
        """Work with these ports."""
        self._policies = policies
        self._publisher = publisher

    async def __call__(self, batch: Batch) -> Awaitable[None]:
        """Apply a batch; await the result to know that its messages are acknowledged."""
        policies = self._policies.of_kind(*_MESSAGE)
        changes, messages = decode(batch.records, self.name)
        for change in changes:
            committed_at = timestamp(change.committed_us)
            for policy in policies:
                if policy.sells_from(change.warehouse):
                    messages.append(_MESSAGE[policy.kind](change, policy, committed_at))
        return await self._publisher.publish(messages)
