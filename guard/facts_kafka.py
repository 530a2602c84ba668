"""Reads what there is to know of Kafka: topics, and how far the consumer groups are."""

import time
from collections.abc import Iterable

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from guard.facts import GroupFacts, KafkaFacts, TopicFacts, Unread

_SECONDS = 5.0
#: Seconds in which a group that works confirms something: workers commit about once a second.
_BETWEEN_LOOKS = 3.0
_SETTINGS = ("cleanup.policy", "min.insync.replicas", "retention.ms", "max.message.bytes")

_Place = tuple[str, int]


def read_kafka(
    bootstrap: str, topics: Iterable[str], groups: Iterable[str], *, twice: bool = True
) -> KafkaFacts | Unread:
    """Look at these topics and groups; `twice`, to see whether a group that is behind moves."""
    # log_level 0: what librdkafka says of its own threads would stand between our lines.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    names, group_names = list(topics), list(groups)
    try:
        found = _topics(admin, names)
        first = {group: positions(admin, group) for group in group_names}
        lags = {group: _lag(admin, positions) for group, positions in first.items()}
        moved: dict[str, int] = {}
        if twice and any(lags.values()):
            time.sleep(_BETWEEN_LOOKS)
            for group, before in first.items():
                after = positions(admin, group)
                moved[group] = sum(
                    max(0, offset - before.get(place, 0)) for place, offset in after.items()
                )
        members = _members(admin, group_names)
    except KafkaException as exc:
        return Unread(f"Kafka at {bootstrap} does not answer: {exc.args[0].str()}")
    except TimeoutError:
        return Unread(f"Kafka at {bootstrap} does not answer within {_SECONDS:g} s")
    return KafkaFacts(
        found,
        {group: GroupFacts(members[group], lags[group], moved.get(group)) for group in group_names},
    )


def _topics(admin: AdminClient, names: list[str]) -> dict[str, TopicFacts]:
    existing = admin.list_topics(timeout=_SECONDS).topics
    present = [name for name in names if name in existing]
    futures = admin.describe_configs(
        [ConfigResource(ResourceType.TOPIC, name) for name in present], request_timeout=_SECONDS
    )
    configs = {resource.name: future.result(_SECONDS) for resource, future in futures.items()}
    return {
        name: TopicFacts(
            len(existing[name].partitions),
            min(len(part.replicas) for part in existing[name].partitions.values()),
            {key: configs[name][key].value for key in _SETTINGS if key in configs[name]},
        )
        for name in present
    }


def positions(admin: AdminClient, group: str) -> dict[_Place, int]:
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


def _lag(admin: AdminClient, positions: dict[_Place, int]) -> int:
    """Records that are not confirmed; partitions that were never confirmed do not count."""
    if not positions:
        return 0
    ends = admin.list_offsets(
        {TopicPartition(*place): OffsetSpec.latest() for place in positions},
        request_timeout=_SECONDS,
    )
    return sum(
        max(0, future.result(_SECONDS).offset - positions[place.topic, place.partition])
        for place, future in ends.items()
    )


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
