"""Watches a channel's topic until its back-fill is complete."""

import time
from collections.abc import Callable, Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from audit.topics import kafka_outages, watermarks
from inventory.errors import Outage
from stockwire_client.contract import SNAPSHOT, SNAPSHOT_LAST, SNAPSHOT_PART

_MESSAGES_PER_CALL = 5_000
_SECONDS_PER_CALL = 0.2
_NEW_TOPIC_SECONDS = 10.0


class SnapshotEnds:
    """Which parts of a back-fill have shown their end, in which partitions.

    Args:
        partitions: how many the channel's topic has.

    Attributes:
        messages: of the back-fill, seen so far.
    """

    def __init__(self, partitions: int) -> None:
        self.messages = 0
        self._partitions = partitions
        self._parts: int | None = None
        self._ends: set[tuple[int, int]] = set()

    def take(self, partition: int, headers: Iterable[tuple[str, bytes]]) -> None:
        """Look at one message."""
        marks = dict(headers)
        if marks.get(SNAPSHOT) == SNAPSHOT_LAST:
            part, _, parts = marks.get(SNAPSHOT_PART, b"").partition(b"/")
            if part.isdigit() and parts.isdigit():
                self._parts = int(parts)
                self._ends.add((partition, int(part)))
        elif SNAPSHOT in marks:
            self.messages += 1

    @property
    def complete(self) -> bool:
        """Whether every partition has shown the end of every part."""
        return self._parts is not None and len(self._ends) >= self._parts * self._partitions

    @property
    def progress(self) -> str:
        """How far it is, in a few words."""
        parts = "?" if self._parts is None else str(self._parts)
        return f"{self.messages:,} messages, {self.parts_ended} of {parts} parts"

    @property
    def parts_ended(self) -> int:
        """The parts whose end every partition has shown."""
        return sum(
            all((partition, part) in self._ends for partition in range(self._partitions))
            for part in range(self._parts or 0)
        )


class Backfill:
    """The back-fill of a topic, from now on.

    A topic may show the ends of an earlier life of its channel: what was there before is skipped.

    Raises (here and in all methods):
        Outage: Kafka does not answer.
        AuditError: there is no such topic.
    """

    def __init__(self, consumer: Consumer, topic: str) -> None:
        """Begin at the topic's present end; the consumer is as `open_consumer` makes it."""
        self._consumer = consumer
        ends = {number: end for number, (_, end) in _watermarks_of_new(consumer, topic).items()}
        with kafka_outages():
            consumer.assign([TopicPartition(topic, *end) for end in ends.items()])
        self.seen = SnapshotEnds(len(ends))

    def wait(self, patience: float, look: Callable[[SnapshotEnds], None]) -> bool:
        """Read until it is complete; False if it is not after so many seconds.

        `look` is called a few times a second with what was seen so far.
        """
        deadline = time.monotonic() + patience
        with kafka_outages():
            while not self.seen.complete:
                if time.monotonic() >= deadline:
                    return False
                for message in self._consumer.consume(_MESSAGES_PER_CALL, _SECONDS_PER_CALL):
                    self._take(message)
                look(self.seen)
        return True

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self.seen.take(message.partition(), message.headers() or ())
        elif error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001 - librdkafka's name
            raise KafkaException(error)


def _watermarks_of_new(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    """The watermarks of a topic that may have been made just now.

    Kafka shows the leader of a new partition a moment before that leader answers.
    """
    deadline = time.monotonic() + _NEW_TOPIC_SECONDS
    while True:
        try:
            return watermarks(consumer, topic)
        except Outage:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.05)
