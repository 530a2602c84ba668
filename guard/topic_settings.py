"""Where a topic's settings are not what they must be."""

from guard.facts import TopicFacts
from inventory.topics import TopicSpec

MIN_IN_SYNC = "min.insync.replicas"


def to_be_set(spec: TopicSpec, topic: TopicFacts) -> dict[str, str]:
    """The settings that differ, and the value that each must have."""
    wanted = {k: v for k, v in spec.settings().items() if topic.config.get(k, v) != v}
    # With more than there are Kafka refuses every write.
    if int(topic.config.get(MIN_IN_SYNC, "1")) > topic.replication:
        wanted[MIN_IN_SYNC] = str(topic.replication)
    return wanted
