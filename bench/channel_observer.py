"""Commit → channel as a subscriber sees it, from the commit time in each message's header."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from bench.latencies import Latencies
from inventory.errors import Outage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POLL_SECONDS = 0.1
_METADATA_SECONDS = 30
#: Messages taken at once when they are there.
_BATCH = 1000


def commit_time(headers: list[tuple[str, bytes]] | None) -> int:
    """The commit time in a channel message's headers (`ce_time`), in µs since the epoch."""
    times = [value for name, value in headers or () if name == "ce_time"]
    return (datetime.fromisoformat(times[0].decode()) - _EPOCH) // _MICROSECOND


class Watched:
    """How many units of one SKU a channel was last told of, over its warehouses if it has several.

    Availability and level messages say `available`; a movement says what the row now holds.
    """

    def __init__(self, sku: str) -> None:
        """Watch this SKU."""
        self._key = sku.encode()
        self._units: dict[str, dict[str, int]] = {}

    def concerns(self, key: bytes) -> bool:
        """Whether a message's key, `sku` or `sku|warehouse`, is the SKU's."""
        return key.partition(b"|")[0] == self._key

    def told(self, channel: str, value: bytes | None) -> None:
        """Take a message's payload; a tombstone says nothing that a sum could show."""
        if value is not None:
            message: dict[str, Any] = orjson.loads(value)
            units = message.get("available")
            if units is None:
                units = message["on_hand"] - message["reserved"]
            self._units.setdefault(channel, {})[message.get("warehouse", "")] = units

    def units(self) -> dict[str, int]:
        """Units by channel; a channel that was not told anything yet is absent."""
        return {channel: sum(parts.values()) for channel, parts in list(self._units.items())}


class ChannelObserver:
    """Subscribes to every partition of the channels' topics, from the moment it is made.

    Args:
        channels: topic → what to call it.
        latencies: by the names in `channels`.
        watched: a SKU to look at more closely; the payload of other messages is not read.
    """

    def __init__(
        self,
        bootstrap: str,
        channels: Mapping[str, str],
        latencies: Mapping[str, Latencies],
        watched: Watched | None = None,
    ) -> None:
        """Find the ends of all partitions.

        Raises:
            Outage: Kafka does not answer.
        """
        self._channels = channels
        self._latencies = latencies
        self._watched = watched
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                # librdkafka asks for a group; nothing is committed and nobody joins it.
                "group.id": "stockwire-observer",
                "enable.auto.commit": False,
                # At its default of a second, a burst that fills the queue would look like latency.
                "fetch.queue.backoff.ms": 5,
            }
        )
        try:
            self._consumer.assign([end for topic in channels for end in self._ends(topic)])
        except KafkaException as exc:
            raise Outage(f"The channels cannot be observed ({exc}); see: make status.") from exc

    def run(self, stopping: threading.Event) -> None:
        """Observe until told to stop.

        Raises:
            Outage: a partition cannot be read.
        """
        while not stopping.is_set():
            messages = self._consumer.consume(1, _POLL_SECONDS)
            if messages:
                messages += self._consumer.consume(_BATCH, 0)
                now = time.time_ns() // 1000
                for message in messages:
                    self._take(message, now)

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def _take(self, message: Message, now: int) -> None:
        error = message.error()
        if error is not None:
            raise Outage(f"A channel cannot be observed ({error}); see: make status.")
        channel = self._channels[message.topic()]
        self._latencies[channel].record(now - commit_time(message.headers()))
        if self._watched is not None and self._watched.concerns(message.key()):
            self._watched.told(channel, message.value())

    def _ends(self, topic: str) -> list[TopicPartition]:
        partitions = self._consumer.list_topics(topic, _METADATA_SECONDS).topics[topic].partitions
        ends = []
        for number in partitions:
            _, end = self._consumer.get_watermark_offsets(
                TopicPartition(topic, number), _METADATA_SECONDS
            )
            ends.append(TopicPartition(topic, number, end))
        return ends
