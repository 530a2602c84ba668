"""Reads what there is to know of Kafka: topics, and how far the consumer groups are."""

import time
from collections.abc import Iterable, Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from guard.facts import GroupFacts, KafkaFacts, Place, TopicFacts, Unread

_SECONDS = 5.0
#: Looks at what waits, and seconds between them: a worker commits about once a second, but one
#: partition's turn in a backlog may take a few.
_LOOKS, _BETWEEN_LOOKS = 3, 3.0


def read_kafka(
    bootstrap: str, topics: Iterable[str], groups: Mapping[str, Iterable[str]]
) -> KafkaFacts | Unread:
    """Look at these topics and groups; again when something waits, to see whether it moves.

    Args:
        bootstrap: of the brokers.
        topics: whose settings are looked at.
        groups: by group, the topics that it reads.
    """
    # log_level 0: what librdkafka says of its own threads would stand between our lines.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        found = read_topics(admin, topics)
        before = {group: positions(admin, group) for group in groups}
        lags = {group: _lags(admin, before[group], reads) for group, reads in groups.items()}
        stuck = lags
        for _ in range(_LOOKS):
            if not any(stuck.values()):
                break
            time.sleep(_BETWEEN_LOOKS)
            stuck = {
                group: _unmoved(behind, before[group], positions(admin, group))
                for group, behind in stuck.items()
            }
        members = _members(admin, list(groups))
    except KafkaException as exc:
        return Unread(f"Kafka at {bootstrap} does not answer: {exc.args[0].str()}")
    except TimeoutError:
        return Unread(f"Kafka at {bootstrap} does not answer within {_SECONDS:g} s")
    return KafkaFacts(
        found,
        {
            group: GroupFacts(members[group], sum(lags[group].values()), stuck[group])
            for group in groups
        },
    )


def _unmoved(
    behind: Mapping[Place, int], before: Mapping[Place, int], after: Mapping[Place, int]
) -> dict[Place, int]:
    return {place: lag for place, lag in behind.items() if after.get(place) == before.get(place)}


def read_topics(admin: AdminClient, names: Iterable[str]) -> dict[str, TopicFacts]:
    """Those of these topics that exist, with all their settings."""
    existing = admin.list_topics(timeout=_SECONDS).topics
    present = [name for name in names if name in existing]
    if not present:
        return {}
    futures = admin.describe_configs(
        [ConfigResource(ResourceType.TOPIC, name) for name in present], request_timeout=_SECONDS
    )
    configs = {resource.name: future.result(_SECONDS) for resource, future in futures.items()}
    return {
        name: TopicFacts(
            len(existing[name].partitions),
            min(len(part.replicas) for part in existing[name].partitions.values()),
            {key: entry.value for key, entry in configs[name].items()},
        )
        for name in present
    }


def positions(admin: AdminClient, group: str) -> dict[Place, int]:
    """What a group has confirmed, by partition."""
    futures = admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group)], request_timeout=_SECONDS
    )
    answer = futures[group].result(_SECONDS)
    return {
        (part.topic, part.partition): part.offset
        for part in answer.topic_partitions
        if part.offset >= 0
    }


def _lags(
    admin: AdminClient, confirmed: Mapping[Place, int], topics: Iterable[str]
) -> dict[Place, int]:
    """Records that a group has not confirmed, by partition; partitions without any are left out.

    Of a partition that it never confirmed, all that is there waits.
    """
    existing = admin.list_topics(timeout=_SECONDS).topics
    places = [
        (topic, part)
        for topic in topics
        if topic in existing
        for part in existing[topic].partitions
    ]
    starts = _offsets(admin, [p for p in places if p not in confirmed], OffsetSpec.earliest())
    ends = _offsets(admin, places, OffsetSpec.latest())
    behind = {
        place: end - confirmed.get(place, starts.get(place, 0)) for place, end in ends.items()
    }
    return {place: lag for place, lag in behind.items() if lag > 0}


def _offsets(admin: AdminClient, places: list[Place], which: OffsetSpec) -> dict[Place, int]:
    if not places:
        return {}
    futures = admin.list_offsets(
        {TopicPartition(*place): which for place in places}, request_timeout=_SECONDS
    )
    return {(p.topic, p.partition): f.result(_SECONDS).offset for p, f in futures.items()}


def _members(admin: AdminClient, groups: list[str]) -> dict[str, int]:
    futures = admin.describe_consumer_groups(groups, request_timeout=_SECONDS)
    members = {}
    for group, future in futures.items():
        try:
            members[group] = len(future.result(_SECONDS).members)
        except KafkaException as exc:
            # A group that never was is a group without members.
            if exc.args[0].name() != "GROUP_ID_NOT_FOUND":
                raise
            members[group] = 0
    return members
