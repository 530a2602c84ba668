"""How far Kafka, the workers, Redis and the auditor's own reading are."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from confluent_kafka import KafkaException, TopicPartition
from redis import Redis

from audit.continuous.flight import Offsets
from audit.continuous.follower import Follower
from audit.projection import departed
from audit.topics import open_consumer, watermarks
from connectors.group_offsets import GroupOffsets
from inventory.errors import AuditError, Outage
from inventory.groups import READS, channel_group, group_id
from inventory.policy import ChannelKind, ChannelPolicy, rules_digest
from inventory.standing import Standing, State
from inventory.topics import CHANNEL_SKU, STOCK
from projections.checkpoint import read_checkpoints
from projections.marks import BEHIND, read_marks

_TIMEOUT = 15.0


class KafkaPipeline:
    """The real `audit.continuous.flight.Pipeline`; every method may raise `Outage`.

    Args:
        bootstrap: `host:port[,host:port]` of the brokers.
        redis: a client with `decode_responses=False`.
        follower: reads the channels' topics and the heartbeat.
    """

    def __init__(self, bootstrap: str, redis: Redis, follower: Follower) -> None:
        self._redis = redis
        self._follower = follower
        self._consumer = open_consumer(bootstrap)
        self._bootstrap = bootstrap
        self._groups: dict[str, GroupOffsets] = {}

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()
        for group in self._groups.values():
            group.close()

    def beat_us(self) -> int:
        """See `Pipeline.beat_us`."""
        return self._follower.beat_us

    def captured(self) -> Offsets:
        """See `Pipeline.captured`."""
        return self._ends((STOCK, CHANNEL_SKU))

    def behind(self, ends: Offsets) -> str | None:
        """See `Pipeline.behind`."""
        known = read_checkpoints(self._redis)
        if known.restoring:
            return f"Redis, which partition {min(known.restoring)} is restored into"
        for (topic, partition), end in ends.items():
            if end and known.offsets.get((topic, partition), 0) < end:
                return f"Redis, which lacks records of {topic} partition {partition}"
        for app, topics in READS.items():
            group = group_id(app)
            due = {place: end for place, end in ends.items() if place[0] in topics and end}
            committed = {(p.topic, p.partition): p.offset for p in self._committed(group, due)}
            for (topic, partition), end in due.items():
                if committed.get((topic, partition), 0) < end:
                    return f"{group}, which is behind in {topic} partition {partition}"
        return None

    def published(self, topics: Iterable[str]) -> Offsets:
        """See `Pipeline.published`; a topic that is missing ends nowhere."""
        ends: dict[tuple[str, int], int] = {}
        for topic in topics:
            # Said by `unsettled`.
            with suppress(AuditError):
                ends |= self._ends([topic])
        return ends

    def unread(self, ends: Offsets) -> str | None:
        """See `Pipeline.unread`."""
        for (topic, partition), end in ends.items():
            place = self._follower.places(topic).get(partition)
            if place is None or place.next < end:
                return f"its own reading of {topic} partition {partition}"
        return None

    def unsettled(self, policies: Sequence[ChannelPolicy], partitions: int) -> dict[str, str]:
        """The places that are about to change by more than new records, and why.

        An edit of a policy is told to every SKU, which takes a while, and a channel that refuses
        its messages is told later.
        """
        marks = read_marks(self._redis)
        sellers = [p for p in policies if p.kind is ChannelKind.AVAILABILITY]
        waiting = {
            f"topic {policy.topic}": f"{policy.topic} was not read yet"
            for policy in policies
            if not self._follower.places(policy.topic)
        }
        leaving = departed(marks, (policy.name for policy in sellers))
        waiting |= {f"redis {name}": f"{name} is being taken out" for name in leaving}
        editing = None
        for policy in sellers:
            told = {marks.get(number, {}).get(policy.name) for number in range(partitions)}
            if not told <= {rules_digest(policy), BEHIND}:
                editing = policy.name
            elif BEHIND in told:
                waiting[f"topic {policy.topic}"] = f"{policy.name} is behind"
        if editing is not None:
            # A rule of one channel can change the numbers of all.
            for policy in sellers:
                for place in (f"redis {policy.name}", f"topic {policy.topic}"):
                    waiting[place] = f"{editing} is being told of its policy"
        for policy in policies:
            if policy.kind is not ChannelKind.AVAILABILITY and not self._is_live(
                policy, partitions
            ):
                waiting[f"topic {policy.topic}"] = f"{policy.name} is not told live"
        return waiting

    def _is_live(self, policy: ChannelPolicy, partitions: int) -> bool:
        places = [(STOCK, number) for number in range(partitions)]
        parts = self._committed(channel_group(policy.name), places)
        standings = [Standing.read(part.offset, part.metadata) for part in parts]
        return bool(standings) and all(s is not None and s.state is State.LIVE for s in standings)

    def _ends(self, topics: Iterable[str]) -> Offsets:
        return {
            (topic, number): end
            for topic in topics
            for number, (_, end) in watermarks(self._consumer, topic).items()
        }

    def _committed(self, group: str, places: Iterable[tuple[str, int]]) -> list[TopicPartition]:
        if group not in self._groups:
            self._groups[group] = GroupOffsets(self._bootstrap, group, "stockwire-audit")
        try:
            return self._groups[group].read(places, _TIMEOUT)
        except KafkaException as exc:
            raise Outage(f"Kafka does not say how far {group} is: {exc.args[0].str()}") from exc
