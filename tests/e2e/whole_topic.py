"""A topic read from its beginning to its present end."""

from contextlib import closing
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, KafkaError, TopicPartition


class Kept(NamedTuple):
    """One message, with where it is."""

    partition: int
    key: bytes
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def json(self) -> Any:
        return None if self.value is None else orjson.loads(self.value)


def read_topic(bootstrap: str, topic: str) -> list[Kept]:
    """All messages that a topic has, each partition's in order."""
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": "never-committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    with closing(Consumer(config)) as consumer:
        numbers = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in numbers])
        reading = set(numbers)
        found = []
        while reading:
            message = consumer.poll(30)
            assert message is not None, f"nothing came of {topic} {reading}"
            if message.error() is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                reading.discard(message.partition())
                continue
            headers = dict(message.headers() or ())
            found.append(Kept(message.partition(), message.key(), message.value(), headers))
    return found
