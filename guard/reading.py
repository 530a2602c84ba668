"""Reads topics without a group: all there is now, from anywhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from guard.facts_kafka import positions
from inventory.errors import Outage

_SECONDS = 10.0
_MESSAGES = 5_000

Place = tuple[str, int]


@contextmanager
def kafka_outages(bootstrap: str) -> Iterator[None]:
    """A broker that does not answer is an Outage."""
    try:
        yield
    except KafkaException as exc:
        raise Outage(f"Kafka at {bootstrap} does not answer: {exc.args[0].str()}.") from exc
    except TimeoutError as exc:
        raise Outage(f"Kafka at {bootstrap} does not answer within {_SECONDS:g} s.") from exc


def ends(bootstrap: str, topics: Sequence[str]) -> dict[Place, int]:
    """One above the last offset of each partition.

    Raises:
        Outage: Kafka does not answer, or a topic does not exist.
    """
    with kafka_outages(bootstrap):
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        known = admin.list_topics(timeout=_SECONDS).topics
        missing = [topic for topic in topics if topic not in known]
        if missing:
            raise Outage(f"Kafka at {bootstrap} has no topic {', '.join(missing)}; make up.")
        places = [
            TopicPartition(topic, part) for topic in topics for part in known[topic].partitions
        ]
        futures = admin.list_offsets(
            {place: OffsetSpec.latest() for place in places}, request_timeout=_SECONDS
        )
        return {(p.topic, p.partition): f.result(_SECONDS).offset for p, f in futures.items()}


def read_to_end(
    bootstrap: str, topic: str, start: Mapping[Place, int], pulse: Callable[[], None] = lambda: None
) -> Iterator[Message]:
    """Every message of a topic until its present end.

    Args:
        bootstrap: of the brokers.
        topic: to be read.
        start: where to begin, by partition; those not named are read from their beginning.
        pulse: called after each portion.

    Raises:
        Outage: Kafka does not answer.
    """
    goal = ends(bootstrap, [topic])
    left = {place: end for place, end in goal.items() if start.get(place, 0) < end}
    with kafka_outages(bootstrap):
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                # Needed by the library; nothing is ever committed.
                "group.id": "stockwire-guard",
                "enable.auto.commit": False,
                "enable.partition.eof": False,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
        try:
            for place in list(left):
                low, _ = consumer.get_watermark_offsets(TopicPartition(*place), timeout=_SECONDS)
                if low >= left[place]:
                    del left[place]
            consumer.assign(
                [TopicPartition(*place, start.get(place, 0)) for place in left],
            )
            while left:
                for message in consumer.consume(_MESSAGES, timeout=0.5):
                    if message.error() is not None:
                        raise KafkaException(message.error())
                    yield message
                # A compacted topic may end before its last offset: the position tells.
                for part in consumer.position([TopicPartition(*place) for place in left]):
                    if part.offset >= left[part.topic, part.partition]:
                        del left[part.topic, part.partition]
                pulse()
        finally:
            consumer.close()


def unconfirmed(bootstrap: str, group: str, goal: Mapping[Place, int]) -> int:
    """Records before these offsets that a group has not confirmed yet.

    Raises:
        Outage: Kafka does not answer.
    """
    with kafka_outages(bootstrap):
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        confirmed = positions(admin, group)
    # A partition in which there never was a record is never confirmed.
    return sum(max(0, end - confirmed.get(place, 0)) for place, end in goal.items())
