"""The channels' policies: read whole before any stock is taken, and followed from then on."""

from collections.abc import Awaitable, Callable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.policy_envelope import read_policy_change
from inventory.errors import InvalidEvent, PolicyError
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.topics import CHANNEL
from stream.bootstrap import until_kafka_answers

log = structlog.stdlib.get_logger(__name__)

_PATIENCE_MS = 5000
"""Pause between two reports that the policy topic is not complete yet."""


class PolicyTable:
    """The policies as of the last change read, by channel.

    Attributes:
        revision: rises with every change.
        whole: whether the table's initial snapshot has been read to its end.
    """

    def __init__(self) -> None:
        """Start without any channel."""
        self._policies: dict[str, ChannelPolicy] = {}
        self._departed: dict[str, ChannelPolicy] = {}
        self._versions: dict[str, int] = {}
        self.revision = 0
        self.whole = False

    def apply(self, value: bytes | None) -> None:
        """Take one event of the channel topic; a tombstone follows its delete event.

        Raises:
            InvalidEvent: it is not a policy; the earlier policy stays.
        """
        if value is None:
            return
        change = read_policy_change(value)
        self.whole = self.whole or change.whole
        name = change.policy.name
        if change.version < self._versions.get(name, 0):
            return
        self._versions[name] = change.version
        if change.gone:
            self._policies.pop(name, None)
            self._departed[name] = change.policy
            self.revision += 1
        else:
            self.put(change.policy)

    def put(self, policy: ChannelPolicy) -> None:
        """Set one channel's policy."""
        self._policies[policy.name] = policy
        self._departed.pop(policy.name, None)
        self.revision += 1

    def names(self) -> list[str]:
        """All channels."""
        return sorted(self._policies)

    def of_kind(self, *kinds: ChannelKind) -> tuple[ChannelPolicy, ...]:
        """The channels of these kinds, by name."""
        return tuple(policy for _, policy in sorted(self._policies.items()) if policy.kind in kinds)

    def departed(self, *kinds: ChannelKind) -> tuple[ChannelPolicy, ...]:
        """The channels of these kinds that are gone, as they were; none whose topic is in use."""
        used = {policy.topic for policy in self._policies.values()}
        return tuple(
            policy
            for _, policy in sorted(self._departed.items())
            if policy.kind in kinds and policy.topic not in used
        )


class PolicyFollower:
    """Reads the whole channel topic without a consumer group: every worker needs every row."""

    def __init__(
        self, bootstrap: str, client_id: str, on_change: Callable[[], Awaitable[None]]
    ) -> None:
        """Follow the topic on these brokers; `on_change` is told when there is something new."""
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._on_change = on_change
        self._consumer: AIOKafkaConsumer | None = None
        self.table = PolicyTable()

    async def load(self) -> None:
        """Return once the topic is read to its end, and the snapshot of the table with it.

        A Kafka that is away is waited for.

        Raises:
            PolicyError: there is no such topic.
        """
        await until_kafka_answers(self._bootstrap, self._client_id)
        consumer = AIOKafkaConsumer(
            CHANNEL,
            bootstrap_servers=self._bootstrap,
            client_id=self._client_id,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        self._consumer = consumer
        await consumer.start()
        partitions = consumer.assignment()
        if not partitions:
            raise PolicyError(f"There is no topic {CHANNEL}; create it with `make up`.")
        ends = await consumer.end_offsets(partitions)
        while not (self.table.whole and await self._reached(consumer, ends)):
            if not await self._read_some(consumer) and not self.table.whole:
                log.info("waiting for the channel policy", topic=CHANNEL)

    async def follow(self) -> None:
        """Apply changes as they are committed, until cancelled."""
        consumer = self._consumer
        assert consumer is not None, "load() comes first"
        while True:
            if await self._read_some(consumer):
                await self._on_change()

    async def close(self) -> None:
        """Leave the brokers."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def _read_some(self, consumer: AIOKafkaConsumer) -> int:
        fetched = await consumer.getmany(timeout_ms=_PATIENCE_MS)
        records = [record for part in fetched.values() for record in part]
        for record in records:
            try:
                self.table.apply(record.value)
            except InvalidEvent as reason:
                # There is no better policy than the one before it; stock must go on.
                log.warning("policy not understood", offset=record.offset, reason=str(reason))
        return len(records)

    @staticmethod
    async def _reached(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
        return all([await consumer.position(tp) >= end for tp, end in ends.items()])
