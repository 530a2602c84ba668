"""A channel of a test's own on the test stack's Kafka."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.topics import ensure_topics
from inventory.policy import ChannelKind
from inventory.topics import channel_topic_spec
from stockwire_client.names import channel_topic
from tests.polling import eventually

PARTITIONS = 3


class Channel:
    """Writes records, and sees what groups have committed."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.name = f"test-{uuid4().hex[:8]}"
        self.group = f"{self.name}-group"
        self.topic = channel_topic(self.name)
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})

    def send(self, key, value, headers=(), partition=None):
        """Write a record; it is there when this returns."""
        where = {} if partition is None else {"partition": partition}
        self._producer.produce(self.topic, key=key, value=value, headers=list(headers), **where)
        assert self._producer.flush(30) == 0

    def send_many(self, records):
        """Write records of (key, value), in order."""
        for key, value in records:
            self._producer.produce(self.topic, key=key, value=value)
            self._producer.poll(0)
        assert self._producer.flush(60) == 0

    def end_part(self, part, parts):
        """The end of one part of a back-fill, in every partition."""
        headers = [
            ("stockwire_snapshot", b"last"),
            ("stockwire_snapshot_part", f"{part}/{parts}".encode()),
        ]
        for partition in range(PARTITIONS):
            self.send(f":snapshot/{part}".encode(), None, headers, partition)

    def left(self, group=None):
        """How many records a group has not committed, None if it has not committed anything."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group or self.group})
        try:
            partitions = [TopicPartition(self.topic, n) for n in range(PARTITIONS)]
            committed = consumer.committed(partitions, timeout=30)
            if all(one.offset < 0 for one in committed):
                return None
            ends = [consumer.get_watermark_offsets(one, timeout=30)[1] for one in partitions]
            return sum(ends) - sum(max(0, one.offset) for one in committed)
        finally:
            consumer.close()


@contextmanager
def fresh_channel(settings, kind: ChannelKind) -> Iterator[Channel]:
    """Make a channel's topic, and delete it at the end."""
    channel = Channel(settings.kafka_bootstrap)
    spec = channel_topic_spec(channel.topic, kind)
    ensure_topics(settings.kafka_bootstrap, [spec], PARTITIONS, say=lambda _: None)
    try:
        yield channel
    finally:
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
        admin.delete_topics([channel.topic])[channel.topic].result(30)


def wait_until_read(channel: Channel, group=None) -> None:
    """Until a group has committed everything."""
    eventually(lambda: channel.left(group) == 0, interval=0.2)
