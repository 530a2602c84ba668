"""Commit → channel as a subscriber sees it, from the commit time in each message's header."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from bench.arrivals import Arrivals, Edits
from inventory.errors import Outage
from inventory.topics import CHANNEL

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POLL_SECONDS = 0.1
_METADATA_SECONDS = 30
#: Messages taken at once when they are there.
_BATCH = 1000


def commit_time(headers: Mapping[str, bytes]) -> int | None:
    """The commit time in a channel message's headers (`ce_time`), in µs since the epoch.

    None on a record that tells of no commit: the end of a back-fill.
    """
    time_text = headers.get("ce_time")
    if time_text is None:
        return None
    return (datetime.fromisoformat(time_text.decode()) - _EPOCH) // _MICROSECOND


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
        arrivals: counts the messages, by the names in `channels`.
        edits: is told of every policy edit; the topic of the policies is read for that.
        watched: a SKU to look at more closely; the payload of other messages is not read.
    """

    def __init__(
        self,
        bootstrap: str,
        channels: Mapping[str, str],
        arrivals: Arrivals,
        edits: Edits,
        watched: Watched | None = None,
    ) -> None:
        """Find the ends of all partitions.

        Raises:
            Outage: Kafka does not answer.
        """
        self._channels = channels
        self._arrivals = arrivals
        self._edits = edits
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
        with _outages():
            self._assigned = [end for topic in (CHANNEL, *channels) for end in self._ends(topic)]
            self._consumer.assign(self._assigned)

    def run(self, stopping: threading.Event) -> None:
        """Observe until told to stop, and then what was published by that time.

        Raises:
            Outage: a partition cannot be read.
        """
        while not stopping.is_set():
            self._take_some()
            self._arrivals.settle(time.time_ns() // 1000)
        with _outages():
            ends = {(tp.topic, tp.partition): self._end(tp) for tp in self._assigned}
            deadline = time.monotonic() + _METADATA_SECONDS
            while not self._has_reached(ends):
                self._take_some()
                if time.monotonic() > deadline:
                    raise Outage("The channels have more messages than can be observed.")
        self._arrivals.settle()

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def _take_some(self) -> None:
        messages = self._consumer.consume(1, _POLL_SECONDS)
        if messages:
            messages += self._consumer.consume(_BATCH, 0)
            now = time.time_ns() // 1000
            for message in messages:
                self._take(message, now)

    def _has_reached(self, ends: Mapping[tuple[str, int], int]) -> bool:
        # Without a message so far a partition has no position: it is at the end it started from.
        return all(
            tp.offset >= ends[tp.topic, tp.partition]
            or ends[tp.topic, tp.partition] == start.offset
            for tp, start in zip(
                self._consumer.position(self._assigned), self._assigned, strict=True
            )
        )

    def _take(self, message: Message, now: int) -> None:
        error = message.error()
        if error is not None:
            raise Outage(f"A channel cannot be observed ({error}); see: make status.")
        topic, value = message.topic(), message.value()
        if topic == CHANNEL:
            if value is not None:
                self._edits.committed(orjson.loads(value)["source"]["ts_us"])
            return
        headers = dict(message.headers() or ())
        committed_us = commit_time(headers)
        if committed_us is None:
            return
        channel = self._channels[topic]
        self._arrivals.add(channel, message.key(), headers["ce_id"], committed_us, now)
        if self._watched is not None and self._watched.concerns(message.key()):
            self._watched.told(channel, value)

    def _ends(self, topic: str) -> list[TopicPartition]:
        partitions = self._consumer.list_topics(topic, _METADATA_SECONDS).topics[topic].partitions
        found = [TopicPartition(topic, number) for number in partitions]
        return [TopicPartition(topic, tp.partition, self._end(tp)) for tp in found]

    def _end(self, partition: TopicPartition) -> int:
        """Where a partition ends now."""
        _, end = self._consumer.get_watermark_offsets(partition, _METADATA_SECONDS)
        return int(end)


@contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except KafkaException as exc:
        raise Outage(f"The channels cannot be observed ({exc}); see: make status.") from exc
