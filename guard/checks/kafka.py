"""Whether topics are as they must be, and the two apps keep up."""

from guard.facts import Facts, GroupFacts, TopicFacts, Unread
from guard.finding import Finding, critical, ok, warning
from guard.topic_settings import MIN_IN_SYNC, to_be_set
from inventory.topics import TopicSpec

RECOVER_TOPICS = "stockwire recover topics"

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
    for spec in facts.topics:
        topic = kafka.topics.get(spec.name)
        if topic is None:
            found.append(
                critical(
                    "topics",
                    f"{spec.name} does not exist",
                    "who writes to it waits or fails, and all behind it",
                    f"{RECOVER_TOPICS} creates it; what was in it is not there again: if Debezium "
                    "wrote it, stockwire recover slot; if it is a channel's, stockwire audit "
                    "--once --heal",
                )
            )
        else:
            found += _one(spec, topic, facts.partitions)
    return found or [ok("topics", f"all {len(facts.topics)} are as they must be")]


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
    for key, value in to_be_set(spec, topic).items():
        actual = topic.config[key]
        if key == MIN_IN_SYNC:
            found.append(
                critical(
                    "topics",
                    f"{spec.name} wants {actual} replicas in sync and has {topic.replication}",
                    "Kafka refuses every write to it",
                    RECOVER_TOPICS,
                )
            )
        else:
            found.append(
                warning(
                    "topics",
                    f"{spec.name} has {key}={actual} instead of {value}",
                    "it may forget what readers still need, or keep what nobody does",
                    RECOVER_TOPICS,
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
    if group.stuck:
        where = ", ".join(f"{topic}[{part}]" for topic, part in sorted(group.stuck))
        return critical(
            "workers",
            f"{name} stands still before {sum(group.stuck.values()):,} records of {where}",
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
