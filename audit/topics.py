"""Reads channel topics from outside: no consumer group is joined and nothing is committed."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from audit.compare import TopicSnapshot
from audit.subscriber import Record, Subscriber, subscriber
from inventory.errors import AuditError, Outage
from inventory.policy import ChannelKind

_MESSAGES_PER_CALL = 10_000
_TIMEOUT = 15.0


def open_consumer(bootstrap: str) -> Consumer:
    """A consumer to be assigned by hand, and closed."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            # librdkafka wants a group's name, also from those who never join it.
            "group.id": "stockwire-audit",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
            # What is fetched ahead waits in memory: by default up to 64 MB and more.
            "queued.max.messages.kbytes": 8_192,
            "fetch.max.bytes": 8_388_608,
            # What goes wrong is raised; librdkafka would print it as well.
            "log_level": 2,
        }
    )


@contextmanager
def kafka_outages() -> Iterator[None]:
    """Turn the errors of a Kafka that does not answer into `Outage`."""
    try:
        yield
    except KafkaException as exc:
        raise Outage(
            f"Kafka cannot be read ({exc.args[0].str()}): is the stack up (`make up`), and "
            "STOCKWIRE_KAFKA_BOOTSTRAP right?"
        ) from exc


def watermarks(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    """Of each partition of a topic, the first offset and the one after the last.

    Raises:
        AuditError: there is no such topic.
        Outage: Kafka does not answer.
    """
    with kafka_outages():
        found = consumer.list_topics(topic, timeout=_TIMEOUT).topics[topic]
        if found.error is not None or not found.partitions:
            raise AuditError(f"Kafka has no topic {topic}; `make up` creates those of DESIGN §3.")
        return {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_TIMEOUT)
            for number in sorted(found.partitions)
        }


class TopicReader:
    """Reads one channel's topic: from its beginning first, and then what is new."""

    def __init__(self, bootstrap: str, topic: str, kind: ChannelKind) -> None:
        """Read nothing yet: errors come from `snapshot`."""
        self._topic = topic
        self._kind = kind
        self._consumer = open_consumer(bootstrap)
        self._next: dict[int, int] = {}
        self._subscriber: Subscriber | None = None

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def snapshot(self) -> TopicSnapshot:
        """What a subscriber has who has read all that is there now.

        Raises:
            AuditError: there is no such topic.
            Outage: Kafka does not answer.
        """
        marks = watermarks(self._consumer, self._topic)
        if self._subscriber is None:
            self._subscriber = self._start(marks)
        with kafka_outages():
            self._read_to(self._subscriber, {number: end for number, (_, end) in marks.items()})
        return self._subscriber.snapshot()

    def _start(self, marks: dict[int, tuple[int, int]]) -> Subscriber:
        self._next = {number: low for number, (low, _) in marks.items()}
        self._consumer.assign([TopicPartition(self._topic, *start) for start in self._next.items()])
        truncated = [number for number, low in self._next.items() if low > 0]
        return subscriber(self._kind, truncated, time.time_ns() // 1000)

    def _read_to(self, taker: Subscriber, ends: dict[int, int]) -> None:
        heard = time.monotonic()
        while missing := sum(max(0, end - self._next[n]) for n, end in ends.items()):
            messages = self._consumer.consume(min(missing, _MESSAGES_PER_CALL), timeout=0.1)
            if messages:
                heard = time.monotonic()
                self._take(taker, messages)
            elif time.monotonic() - heard > _TIMEOUT:
                raise Outage(
                    f"Kafka sent nothing of {self._topic} for {_TIMEOUT:.0f} s, though "
                    f"{missing:,} messages are missing; look at its log."
                )

    def _take(self, taker: Subscriber, messages: Sequence[Message]) -> None:
        for message in messages:
            error, number, offset = message.error(), message.partition(), message.offset()
            if error is None:
                timestamp_us = message.timestamp()[1] * 1000
                taker.take(Record(number, message.key() or b"", message.value(), timestamp_us))
                self._next[number] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's name
                # Compaction may have removed the messages before the end.
                self._next[number] = max(self._next[number], offset)
            elif not error.retriable():
                raise KafkaException(error)
