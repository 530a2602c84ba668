"""The channels' policies: read whole before any stock is taken, and followed from then on."""

from collections.abc import Container

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.envelope import read_policy_change
from inventory.availability import ChannelKind, ChannelPolicy
from inventory.errors import InvalidEvent, PolicyError
from inventory.topics import CHANNEL

log = structlog.stdlib.get_logger(__name__)

_PATIENCE_MS = 5000
"""Pause between two reports that the policy topic is not complete yet."""


class PolicyTable:
    """The policies as of the last change read, by channel."""

    def __init__(self) -> None:
        """Start without any channel."""
        self._policies: dict[str, ChannelPolicy] = {}
        self._missing: set[str] = set()
        self.whole = False
        """Whether the table's initial snapshot has been read to its end."""

    def apply(self, value: bytes | None) -> None:
        """Take one event of the channel topic; a tombstone follows its delete event.

        Raises:
            InvalidEvent: it is not a policy; the earlier policy stays.
        """
        if value is None:
            return
        change = read_policy_change(value)
        self.whole = self.whole or change.whole
        if change.policy is None:
            self._policies.pop(change.name, None)
        else:
            self.put(change.policy)

    def put(self, policy: ChannelPolicy) -> None:
        """Set one channel's policy."""
        self._policies[policy.name] = policy

    def names(self) -> list[str]:
        """All channels."""
        return sorted(self._policies)

    def of_kind(self, *kinds: ChannelKind) -> tuple[ChannelPolicy, ...]:
        """The channels of these kinds that can be published to, by name."""
        return tuple(
            policy
            for name, policy in sorted(self._policies.items())
            if policy.kind in kinds and name not in self._missing
        )

    def leave_out_missing(self, topics: Container[str]) -> set[str]:
        """Leave out the channels whose topic is not among `topics`; their names.

        Waiting for a topic that nobody makes would hold up the channels beside it.
        """
        self._missing = {p.name for p in self._policies.values() if p.topic not in topics}
        return self._missing


class PolicyFollower:
    """Reads the whole channel topic without a consumer group: every worker needs every row."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        """Follow the topic on these brokers."""
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._consumer: AIOKafkaConsumer | None = None
        self.table = PolicyTable()

    async def load(self) -> None:
        """Return once the topic is read to its end, and the snapshot of the table with it.

        Raises:
            PolicyError: there is no such topic.
        """
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
        await self._look_for_topics(consumer)

    async def follow(self) -> None:
        """Apply changes as they are committed, until cancelled."""
        consumer = self._consumer
        assert consumer is not None, "load() comes first"
        missing: set[str] = set()
        while True:
            if await self._read_some(consumer) or missing:
                missing = await self._look_for_topics(consumer)

    async def close(self) -> None:
        """Leave the brokers."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def _look_for_topics(self, consumer: AIOKafkaConsumer) -> set[str]:
        missing = self.table.leave_out_missing(await consumer.topics())
        if missing:
            log.warning("channels without a topic are left out", channels=sorted(missing))
        return missing

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
