"""Follows a channel's topic the way a subscriber does, for `stockwire tail`."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from audit.topics import kafka_outages, open_consumer, watermarks


class ChannelMessage(NamedTuple):
    """One message of a channel's topic.

    Attributes:
        value: the decoded JSON, or the text of what is none; None for a tombstone.
        arrived_us: here, or for a message from before the start at Kafka; µs since the epoch.
        committed_us: in Postgres, µs since the epoch; None if the message does not say.
    """

    topic: str
    partition: int
    offset: int
    key: str
    value: Any
    arrived_us: int
    committed_us: int | None

    @property
    def latency_ms(self) -> float | None:
        """From the commit to the arrival."""
        if self.committed_us is None:
            return None
        return (self.arrived_us - self.committed_us) / 1000

    def is_about(self, sku: str) -> bool:
        """Whether it concerns this SKU."""
        if isinstance(self.value, dict):
            return bool(self.value.get("sku") == sku)
        return self.key == sku or self.key.startswith(f"{sku}|")


def follow(bootstrap: str, topic: str, *, from_start: bool) -> Iterator[ChannelMessage]:
    """Every message of a topic, from its beginning or from now on, without end.

    Raises:
        AuditError: there is no such topic.
        Outage: Kafka does not answer at the start; later on it is waited for.
    """
    with closing(open_consumer(bootstrap)) as consumer, kafka_outages():
        started_ms = time.time_ns() // 1_000_000
        consumer.assign(
            [
                TopicPartition(topic, number, first if from_start else end)
                for number, (first, end) in watermarks(consumer, topic).items()
            ]
        )
        while True:
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is None:
                yield read_message(message, started_ms)
            elif error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001 - librdkafka's name
                raise KafkaException(error)


def read_message(message: Message, started_ms: int) -> ChannelMessage:
    """A record as it came; `started_ms` tells those that were there before."""
    produced_ms = message.timestamp()[1]
    now_us = time.time_ns() // 1000
    return ChannelMessage(
        message.topic(),
        message.partition(),
        message.offset(),
        (message.key() or b"").decode(errors="replace"),
        _decoded(message.value()),
        now_us if produced_ms >= started_ms else produced_ms * 1000,
        _committed_us(dict(message.headers() or ()).get("ce_time")),
    )


def _decoded(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return orjson.loads(value)
    except ValueError:
        return value.decode(errors="replace")


def _committed_us(time_header: bytes | None) -> int | None:
    """The header `ce_time`, which tombstones carry as well."""
    try:
        moment = datetime.fromisoformat((time_header or b"").decode())
    except ValueError:
        return None
    return round(moment.timestamp() * 1_000_000)
