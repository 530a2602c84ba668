"""Follows every channel's topic and Debezium's heartbeat, without a group, from a thread."""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from audit.continuous.texts import Told, told
from audit.continuous.told import Place, ToldStore
from audit.topics import kafka_outages, open_consumer, watermarks
from inventory.errors import AuditError, Outage
from inventory.policy import ChannelKind
from inventory.topics import HEARTBEAT

log = structlog.stdlib.get_logger(__name__)

_MESSAGES_PER_CALL = 5_000
#: How long a call waits for more messages: a write of many costs hardly more than one of few.
_POLL_SECONDS = 0.5
_PAUSE_SECONDS = 1.0
#: A topic that is missing is looked for so often.
_MISSING_SECONDS = 5.0


class Follower:
    """Keeps in the file what the channels were told last.

    Args:
        bootstrap: `host:port[,host:port]` of the brokers.
        path: of the file, see `ToldStore`.
    """

    def __init__(self, bootstrap: str, path: Path) -> None:
        self._bootstrap = bootstrap
        self._path = path
        self._wanted: dict[str, ChannelKind] = {}
        self._kinds: dict[str, ChannelKind] = {}
        self._places: dict[str, dict[int, Place]] = {}
        self._beat_us = 0
        self._error: BaseException | None = None
        self._again = -math.inf
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="told", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(30)

    def follow(self, topics: Mapping[str, ChannelKind]) -> None:
        """Follow just these from now on; what was kept of others is dropped."""
        with self._lock:
            self._wanted = dict(topics)

    @property
    def beat_us(self) -> int:
        """When the newest heartbeat in Kafka was written, on Postgres' clock, in µs."""
        self._check()
        return self._beat_us

    def places(self, topic: str) -> dict[int, Place]:
        """How far a topic was read and kept; empty before anything is known of it."""
        self._check()
        with self._lock:
            return dict(self._places.get(topic, {}))

    def _check(self) -> None:
        if self._error is not None:
            raise AuditError(f"The auditor reads no topics any more: {self._error}")

    def _run(self) -> None:
        try:
            with ToldStore(self._path) as store:
                while not self._stopping.is_set():
                    try:
                        with closing(open_consumer(self._bootstrap)) as consumer, kafka_outages():
                            self._follow(store, consumer)
                    except Outage as exc:
                        log.warning("topics cannot be read", reason=str(exc))
                        self._stopping.wait(_PAUSE_SECONDS)
        except Exception as exc:
            # The main loop tells it, and ends the process.
            self._error = exc
            raise

    def _follow(self, store: ToldStore, consumer: Consumer) -> None:
        self._again = -math.inf
        while not self._stopping.is_set():
            with self._lock:
                wanted = dict(self._wanted)
            if wanted != self._kinds or time.monotonic() > self._again:
                self._assign(store, consumer, wanted)
            messages = consumer.consume(_MESSAGES_PER_CALL, timeout=_POLL_SECONDS)
            if messages:
                self._take(store, messages)

    def _assign(
        self, store: ToldStore, consumer: Consumer, wanted: Mapping[str, ChannelKind]
    ) -> None:
        places: dict[str, dict[int, Place]] = {}
        self._again = math.inf
        for topic, kind in wanted.items():
            try:
                marks = watermarks(consumer, topic)
            except AuditError:
                # A new channel's row may be there before its topic.
                self._again = time.monotonic() + _MISSING_SECONDS
                continue
            known = store.places(topic)
            if any(at.next > marks.get(number, (0, 0))[1] for number, at in known.items()):
                log.warning("a topic begins anew", topic=topic)
                store.forget(topic)
                known = {}
            if kind is ChannelKind.MOVEMENT:
                for number, at in known.items():
                    if at.next < marks.get(number, (0, 0))[0]:
                        log.warning("movements have expired unread", topic=topic, partition=number)
                        store.forget_accounts(topic, number)
            places[topic] = {
                number: _start(known.get(number), low) for number, (low, _) in marks.items()
            }
        for topic in self._places.keys() - wanted.keys():
            store.forget(topic)
        starts = [
            TopicPartition(topic, number, at.next)
            for topic, parts in places.items()
            for number, at in parts.items()
        ]
        (end,) = (end for _, end in watermarks(consumer, HEARTBEAT).values())
        consumer.assign([*starts, TopicPartition(HEARTBEAT, 0, max(0, end - 1))])
        with self._lock:
            self._places = places
        self._kinds = dict(wanted)

    def _take(self, store: ToldStore, messages: Iterable[Message]) -> None:
        said: dict[str, list[Told]] = defaultdict(list)
        places: dict[str, dict[int, Place]] = defaultdict(dict)
        for message in messages:
            topic, number, offset = message.topic(), message.partition(), message.offset()
            if not _is_record(message):
                if topic in self._places and offset is not None:
                    # Compaction may have removed the messages before the end.
                    places[topic][number] = self._moved(places, message, offset)
            elif topic == HEARTBEAT:
                self._beat_us = max(self._beat_us, _beat_us(message.value()))
            elif topic in self._places:
                each = told(self._kinds[topic], message.key() or b"", message.value(), number)
                if each is not None:
                    said[topic].append(each)
                places[topic][number] = self._moved(places, message, offset + 1)
        for topic, parts in places.items():
            if said[topic] or any(at != self._places[topic][n] for n, at in parts.items()):
                store.take(topic, said[topic], parts)
            with self._lock:
                self._places[topic] |= parts

    def _moved(
        self, places: Mapping[str, Mapping[int, Place]], message: Message, offset: int
    ) -> Place:
        topic, number = message.topic(), message.partition()
        at = places.get(topic, {}).get(number) or self._places[topic][number]
        since = at.kept_since_us
        if since == _UNKNOWN and message.error() is None:
            since = message.timestamp()[1] * 1000
        return Place(max(at.next, offset), since)


#: Something has expired before anything was read: until the first message, anything can have.
_UNKNOWN = 2**62


def _start(known: Place | None, low: int) -> Place:
    if known is None:
        return Place(low, _UNKNOWN if low > 0 else None)
    if known.next < low:
        return Place(low, _UNKNOWN)
    return known


def _is_record(message: Message) -> bool:
    """Whether it is a record, and not the news that there are no more of them now."""
    error = message.error()
    if error is None:
        return True
    if error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001
        raise KafkaException(error)
    return False


def _beat_us(value: bytes | None) -> int:
    """When a heartbeat was written; 0 for a record that does not say."""
    if value is None:
        return 0
    try:
        moment = datetime.fromisoformat(orjson.loads(value)["after"]["beat_at"])
    except (ValueError, KeyError, TypeError):
        return 0
    return round(moment.timestamp() * 1_000_000)
