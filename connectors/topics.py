"""Create the Kafka topics, and check those that exist."""

import time
from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType, TopicMetadata

from inventory.errors import Outage, TopicError
from inventory.topics import TopicSpec

_POLL_SECONDS = 0.1


def ensure_topics(
    bootstrap: str,
    specs: Sequence[TopicSpec],
    partitions: int,
    *,
    replication: int = 1,
    timeout: float = 30.0,
    say: Callable[[str], None],
) -> list[str]:
    """Create the topics that are missing, and return their names once the broker shows them.

    A topic that exists is left as it is: more partitions would move its keys, and another
    clean-up policy may drop what readers still need.

    Args:
        bootstrap: `host:port[,host:port]` of the brokers.
        specs: the topics as they must be.
        partitions: of every topic whose spec names no number.
        replication: copies of each new partition.
        timeout: seconds for all of it.
        say: told of each topic created, in one line.

    Raises:
        TopicError: an existing topic has another number of partitions or another clean-up
            policy, or the broker refuses to create one.
        Outage: no broker answers in time.
    """
    deadline = time.monotonic() + timeout
    # log_level 0: what librdkafka says of its own threads would stand between our lines.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    wanted = {spec.name: spec.partitions or partitions for spec in specs}
    try:
        existing = admin.list_topics(timeout=timeout).topics
        missing = [spec for spec in specs if spec.name not in existing]
        created = _create(admin, missing, wanted, replication, timeout)
        found = _wait_until_shown(admin, wanted, deadline)
        policies = _cleanup_policies(admin, wanted, timeout)
    except KafkaException as exc:
        raise Outage(f"Kafka at {bootstrap} does not answer: {exc.args[0].str()}.") from exc
    for spec in specs:
        _check(spec, wanted[spec.name], len(found[spec.name].partitions), policies[spec.name])
    for name in created:
        say(f"topic {name}: created, {wanted[name]} partition(s)")
    return created


def _create(
    admin: AdminClient,
    missing: Sequence[TopicSpec],
    wanted: dict[str, int],
    replication: int,
    timeout: float,
) -> list[str]:
    if not missing:
        return []
    futures = admin.create_topics(
        [NewTopic(s.name, wanted[s.name], replication, config=s.settings()) for s in missing],
        operation_timeout=timeout,
    )
    created = []
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as exc:
            # Somebody else may have made it meanwhile; what they made is checked with the rest.
            if exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicError(f"Kafka refused to create {name}: {exc.args[0].str()}.") from exc
        else:
            created.append(name)
    return created


def _wait_until_shown(
    admin: AdminClient, names: Iterable[str], deadline: float
) -> dict[str, TopicMetadata]:
    """The topics' metadata, once every partition of each has a leader."""
    while True:
        topics = admin.list_topics(timeout=max(1.0, deadline - time.monotonic())).topics
        waiting = [
            name
            for name in names
            if name not in topics or any(p.leader < 0 for p in topics[name].partitions.values())
        ]
        if not waiting:
            return dict(topics)
        if time.monotonic() > deadline:
            raise TopicError(f"Kafka does not show a leader for {', '.join(waiting)}; see its log.")
        time.sleep(_POLL_SECONDS)


def _cleanup_policies(admin: AdminClient, names: Iterable[str], timeout: float) -> dict[str, str]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    futures = admin.describe_configs(resources, request_timeout=timeout)
    return {
        resource.name: future.result()["cleanup.policy"].value
        for resource, future in futures.items()
    }


def _check(spec: TopicSpec, partitions: int, found_partitions: int, found_cleanup: str) -> None:
    differences = []
    if found_partitions != partitions:
        differences.append(f"{found_partitions} partition(s) instead of {partitions}")
    if found_cleanup != spec.cleanup:
        differences.append(f"cleanup.policy {found_cleanup} instead of {spec.cleanup}")
    if differences:
        raise TopicError(
            f"Topic {spec.name} has {' and '.join(differences)}. Set STOCKWIRE_PARTITIONS to what "
            "it was made with, or delete the topic, run this again and fill it by a snapshot."
        )
