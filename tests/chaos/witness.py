"""Sees every message of channels, outbox and dead letters, and the versions that readers get."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import orjson
import redis
from confluent_kafka import Consumer, Message, TopicPartition

from inventory.names import stock_key
from inventory.topics import DEAD_LETTER, events_topic
from stockwire_client.names import availability_key, channel_topic
from tests.chaos.probe import Probe

EVENTS = events_topic("order")
_PLACES = {channel_topic(name): name for name in ("web", "app", "wms")}
_LEDGER = channel_topic("erp")
#: Their messages carry versions of rows; those of the others a clock of their own.
LEVELS = frozenset({"wms"})
#: What a message about the same version says again, word for word.
_STATE = ("available", "status", "on_hand", "reserved", "safety_stock", "incoming")
_CHANNELS = ("web", "app")
_LOOK_EVERY = 0.25


class StepBack(NamedTuple):
    """A version that was lower than one before.

    Attributes:
        what: about which place and key.
        clock: whether it is of an availability channel's clock, in µs; else of a row.
    """

    what: str
    before: int
    after: int
    clock: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.before} then {self.after}"


#: Headers that tell dead letters apart.
_ORIGIN = ("topic", "partition", "offset")


class TopicWitness:
    """Follows the topics from now on, without a group.

    Attributes:
        events: how often each outbox event arrived, by id.
        told_again: how many messages were older than what their key was told before, and exact
            repeats of an earlier one: redelivery, which consumers drop by the version.
        backwards: messages of availability channels that were older, and no such repeats.
        overtaken: messages of level channels that were older and new: rows that a snapshot had
            overtaken. Neither says that the last message of a key is the newest: the audit does.
        twice: changes that a ledger was told of under two ids: it would count both.
        dead_letters: what was set aside, as (who, why); each record once for each who. Where Redis
            has lost all, topics are read from their beginning, nonsense included.
    """

    def __init__(self, bootstrap: str) -> None:
        self.remember()
        self.events: Counter[str] = Counter()
        self.dead_letters: list[tuple[str, str]] = []
        self._set_aside: set[tuple[str, ...]] = set()
        self.messages = 0
        self.probe: Probe | None = None
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "chaos-witness",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        starts = []
        for topic in (*_PLACES, _LEDGER, EVENTS, DEAD_LETTER):
            found = self._consumer.list_topics(topic, timeout=30).topics[topic]
            for number in found.partitions:
                part = TopicPartition(topic, number)
                first, end = self._consumer.get_watermark_offsets(part, timeout=30)
                part.offset = first if topic == DEAD_LETTER else end
                starts.append(part)
        self._consumer.assign(starts)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def remember(self) -> None:
        """Begin to remember what each key was told."""
        self.backwards: list[StepBack] = []
        self.overtaken: list[StepBack] = []
        self.twice: list[str] = []
        self._movements: dict[tuple[str, str, int], str] = {}
        self.told_again = 0
        self._told: dict[tuple[str, bytes], dict[int, int]] = defaultdict(dict)
        self._highest: dict[tuple[str, bytes], int] = {}

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(30)
        self._consumer.close()

    def alive(self) -> bool:
        """Whether it still listens."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(500, timeout=0.02):
                if message.error() is None:
                    self._take(message)

    def _take(self, message: Message) -> None:
        self.messages += 1
        topic = message.topic()
        headers = dict(message.headers() or ())
        if topic == EVENTS:
            self.events[headers["id"].decode()] += 1
        elif topic == DEAD_LETTER:
            who = headers.get("__connect.errors.connector.name", b"connect").decode()
            why = headers.get("__connect.errors.exception.message", b"").decode()
            record = (who, *(str(headers.get(f"__connect.errors.{name}")) for name in _ORIGIN))
            if record not in self._set_aside:
                self._set_aside.add(record)
                self.dead_letters.append((who, why))
        elif message.value() is None:
            return  # a SKU that is gone, or the end of a snapshot
        elif topic == _LEDGER:
            self.count(orjson.loads(message.value()))
        else:
            place, key = _PLACES[topic], message.key() or b""
            told = orjson.loads(message.value())
            self.check(place, key, told["version"], [told.get(name) for name in _STATE])
            if self.probe is not None and place != "app":
                units = told["on_hand"] if place == "wms" else told["available"]
                self.probe.told(place, told["sku"], units)

    def count(self, told: dict) -> None:
        """Note a ledger's message: one change of a row has one id, however often it is told."""
        change, movement = (told["sku"], told["warehouse"], told["version"]), told["movement_id"]
        if self._movements.setdefault(change, movement) != movement:
            self.twice.append(f"{self._movements[change]} and {movement}")

    def check(self, place: str, key: bytes, version: int, state: object = None) -> None:
        """Compare a message with what the key was told before, and remember it.

        Args:
            state: what the message says, but for times.
        """
        about, said = (place, key), hash(str(state))
        told, highest = self._told[about], self._highest.get(about, version)
        if version < highest:
            first = next(iter(told))
            # What is older than all that was seen was told before anybody looked.
            if told.get(version) == said or version < first:
                self.told_again += 1
            else:
                late = self.overtaken if place in LEVELS else self.backwards
                what = f"{place} {key.decode()}"
                late.append(StepBack(what, highest, version, place not in LEVELS))
                told[version] = said
        else:
            told[version] = said
            self._highest[about] = version


class RedisWitness:
    """Reads every SKU as a storefront would, and its rows, several times a second.

    Attributes:
        backwards: versions that were lower than what was read before: those of the channels'
            numbers, and those of the rows that they are made of.
    """

    def __init__(self, redis_url: str, skus: Iterable[str]) -> None:
        self.remember()
        self._redis_url = redis_url
        self._skus = list(skus)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def remember(self) -> None:
        """Begin to remember what was read."""
        self.backwards: list[StepBack] = []
        self.rounds = 0
        self._versions: dict[tuple[str, str], int] = {}
        self._highest: dict[tuple[str, str], int] = {}
        self._seen: set[tuple[str, str]] = set()
        self._behind: list[StepBack] = []

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(30)

    def alive(self) -> bool:
        """Whether it still looks."""
        return self._thread.is_alive()

    def behind(self) -> list[StepBack]:
        """What is there by the last look, and is lower than what was read before the fault."""
        return self._behind

    def round_ends(self) -> None:
        """All was looked at once."""
        self._behind = [
            StepBack(f"{sku} {what}", highest, now, what in _CHANNELS)
            for sku, what in self._seen
            if (now := self._versions[sku, what]) < (highest := self._highest[sku, what])
        ]
        self._seen = set()
        self.rounds += 1

    def _run(self) -> None:
        client = redis.Redis.from_url(self._redis_url, socket_timeout=2, socket_connect_timeout=1)
        while not self._stop.wait(_LOOK_EVERY):
            pipe = client.pipeline(transaction=False)
            for sku in self._skus:
                pipe.hmget(availability_key(sku), [f"{channel}:version" for channel in _CHANNELS])
                pipe.hgetall(stock_key(sku))
            try:
                answers = iter(pipe.execute())
            except redis.RedisError:
                continue
            for sku, numbers, rows in zip(self._skus, answers, answers, strict=False):
                for channel, version in zip(_CHANNELS, numbers, strict=True):
                    if version is not None:
                        self.check(sku, channel, int(version))
                for field, row in rows.items():
                    if not field.startswith(b":"):
                        self.check(sku, field.decode(), int(row.split()[0]))
            self.round_ends()
        client.close()

    def check(self, sku: str, what: str, version: int) -> None:
        """Compare the version of a channel's number or of a row with what was read before."""
        about = (sku, what)
        last = self._versions.get(about, 0)
        if version < last:
            self.backwards.append(StepBack(f"{sku} {what}", last, version, what in _CHANNELS))
        # Each step back counts once.
        self._versions[about] = version
        self._highest[about] = max(self._highest.get(about, 0), version)
        self._seen.add(about)
