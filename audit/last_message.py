"""Finds the last message of a key in a topic, without reading the whole topic where possible."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime

import orjson
from aiokafka.partitioner import murmur2
from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from audit.agreement import LastMessage
from audit.topics import kafka_outages, watermarks
from inventory.errors import Outage

#: Clocks of Postgres and Kafka may differ by so much, in µs.
_CLOCK_SKEW_US = 60_000_000

_MESSAGES_PER_CALL = 10_000
_TIMEOUT = 15.0


def partition_of(key: bytes, partitions: int) -> int:
    """Where a key's messages are: as Java's partitioner has it, and our producers."""
    hashed: int = murmur2(key)
    return (hashed & 0x7FFFFFFF) % partitions


class KeyReader:
    """Reads what one topic says of one key.

    Args:
        consumer: as `audit.topics.open_consumer` makes it; its assignment is changed.
        since_us: the message that matters is not older, in µs since the epoch; None if that is
            not known.

    Raises (here and in all methods):
        Outage: Kafka does not answer.
        AuditError: there is no such topic.
    """

    def __init__(self, consumer: Consumer, topic: str, key: bytes, since_us: int | None) -> None:
        self._consumer = consumer
        self._key = key
        marks = watermarks(consumer, topic)
        number = partition_of(key, len(marks))
        self._where = (topic, number)
        self._first, self._end = marks[number]
        self._start = self._first if since_us is None else self._offset_at(since_us)

    @property
    def truncated(self) -> bool:
        """Whether messages before the first one are gone."""
        return self._first > 0

    def last(self) -> LastMessage | None:
        """The last message of the key; None if there is none."""
        for first, end in ((self._start, self._end), (self._first, self._start)):
            last: Message | None = None
            for message in self._messages(first, end):
                last = message
            if last is not None:
                return _last_message(last)
        return None

    def last_of_each(self, wanted: Mapping[str, int]) -> dict[str, LastMessage]:
        """For each warehouse the message with this version of the row, or the last one before it.

        A ledger's topic is long: reading ends where all are found.
        """
        found: dict[str, LastMessage] = {}
        for first, end in ((self._start, self._end), (self._first, self._start)):
            missing = {code: version for code, version in wanted.items() if code not in found}
            for message in self._messages(first, end) if missing else ():
                warehouse, version = _row_version(message.value())
                if warehouse in missing:
                    found[warehouse] = _last_message(message)
                    if version >= missing[warehouse]:
                        del missing[warehouse]
                if not missing:
                    break
        return found

    def _offset_at(self, since_us: int) -> int:
        asked = TopicPartition(*self._where, max(0, since_us - _CLOCK_SKEW_US) // 1000)
        with kafka_outages():
            (found,) = self._consumer.offsets_for_times([asked], timeout=_TIMEOUT)
        if found.error is not None:
            raise Outage(f"Kafka cannot be read ({found.error.str()}).")
        return self._end if found.offset == OFFSET_END else int(found.offset)

    def _messages(self, first: int, end: int) -> Iterator[Message]:
        """Those of the key from one offset to before another."""
        if first >= end:
            return
        with kafka_outages():
            self._consumer.assign([TopicPartition(*self._where, first)])
            try:
                yield from self._read(first, end)
            finally:
                self._consumer.unassign()

    def _read(self, position: int, end: int) -> Iterator[Message]:
        heard = time.monotonic()
        while position < end:
            some = self._consumer.consume(min(end - position, _MESSAGES_PER_CALL), timeout=0.1)
            if some:
                heard = time.monotonic()
            elif time.monotonic() - heard > _TIMEOUT:
                raise Outage(f"Kafka sent nothing of {self._where[0]} for {_TIMEOUT:.0f} s.")
            for message in some:
                error = message.error()
                if error is None:
                    position = message.offset() + 1
                    if message.key() == self._key and message.offset() < end:
                        yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's name
                    # Compaction may have removed the messages before the end.
                    position = max(position, message.offset())
                elif not error.retriable():
                    raise KafkaException(error)


def _last_message(message: Message) -> LastMessage:
    return LastMessage(
        message.partition(), message.offset(), message.value(), _committed_us(message)
    )


def _committed_us(message: Message) -> int | None:
    """The header `ce_time`, which tombstones carry as well."""
    header = dict(message.headers() or ()).get("ce_time", b"")
    try:
        moment = datetime.fromisoformat(header.decode())
    except ValueError:
        return None
    return round(moment.timestamp() * 1_000_000)


def _row_version(value: bytes | None) -> tuple[str | None, int]:
    """Which row a movement is of, and its version; none for what no worker has written."""
    try:
        message = orjson.loads(value or b"")
        return str(message["warehouse"]), int(message["version"])
    except (ValueError, KeyError, TypeError):
        return None, 0
