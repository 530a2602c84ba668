"""Whether topics are as they must be, and the two apps keep up."""

from guard.facts import Facts, GroupFacts, TopicFacts, Unread
from guard.finding import Finding, critical, ok, warning
from inventory.topics import ALL_TOPICS, TopicSpec

#: Records that may wait: a few seconds of a burst.
LAG_WARNING = 20_000


def answers(facts: Facts) -> list[Finding]:
    """Kafka can be read."""
    kafka = facts.kafka
    if isinstance(kafka, Unread):
        return [
            critical(
                "kafka",
                kafka.why,
                "no change moves; each waits where it is, and none is lost",
                "stockwire status, stockwire logs kafka; then make up",
            )
        ]
    return [ok("kafka", "answers")]


def topics(facts: Facts) -> list[Finding]:
    """Each topic exists, with its partitions and settings."""
    kafka = facts.kafka
    if isinstance(kafka, Unread):
        return []
    found = []
    for spec in ALL_TOPICS:
        topic = kafka.topics.get(spec.name)
        if topic is None:
            found.append(
                critical(
                    "topics",
                    f"{spec.name} does not exist",
                    "who writes to it waits or fails, and all behind it",
                    "make up creates it",
                )
            )
        else:
            found += _one(spec, topic, facts.partitions)
    return found or [ok("topics", f"all {len(ALL_TOPICS)} are as they must be")]


def _one(spec: TopicSpec, topic: TopicFacts, partitions: int) -> list[Finding]:
    found = []
    wanted = spec.partitions or partitions
    if topic.partitions != wanted:
        found.append(
            critical(
                "topics",
                f"{spec.name} has {topic.partitions} partitions instead of {wanted}",
                "keys are on other partitions than the workers look for them on",
                "set STOCKWIRE_PARTITIONS to what it was made with, or delete the topic, make up, "
                "and stockwire recover slot fills it",
            )
        )
    for key, value in spec.settings().items():
        actual = topic.config.get(key)
        if actual is not None and actual != value:
            found.append(
                warning(
                    "topics",
                    f"{spec.name} has {key}={actual} instead of {value}",
                    "it may forget what readers still need, or keep what nobody does",
                    f"kafka-configs --alter --topic {spec.name} --add-config {key}={value}",
                )
            )
    in_sync = int(topic.config.get("min.insync.replicas", "1"))
    if in_sync > topic.replication:
        found.append(
            critical(
                "topics",
                f"{spec.name} wants {in_sync} replicas in sync and has {topic.replication}",
                "Kafka refuses every write to it",
                f"kafka-configs --alter --topic {spec.name} --add-config "
                f"min.insync.replicas={topic.replication}",
            )
        )
    return found


def groups(facts: Facts) -> list[Finding]:
    """Each app has members, and does not stand still before records."""
    kafka = facts.kafka
    if isinstance(kafka, Unread):
        return []
    return [_group(name, group) for name, group in kafka.groups.items()]


def _group(name: str, group: GroupFacts) -> Finding:
    waiting = f"{group.lag:,} records wait"
    logs = f"stockwire logs {name.removeprefix('stockwire-')}"
    if group.members == 0:
        return critical(
            "workers",
            f"{name} has no member, {waiting}",
            "its channels are told nothing",
            f"{logs} says why; make up starts it",
        )
    if group.lag and group.moved == 0:
        return critical(
            "workers",
            f"{name} stands still, {waiting}",
            "its channels are told nothing new",
            f"{logs}; its watchdog ends it, and it starts again by itself",
        )
    if group.lag > LAG_WARNING:
        return warning(
            "workers",
            f"{name} is behind, {waiting}",
            "its channels are told late",
            f"wait; if it grows: {logs}, and start another worker",
        )
    return ok("workers", f"{name} works, {waiting}")
