"""Kafka in memory, behind the part of confluent-kafka's consumer that the kit uses."""

from dataclasses import dataclass, field

import orjson
from confluent_kafka import KafkaError, TopicPartition

from stockwire_client import AVAILABILITY, Change
from stockwire_client.intake import Intake, Signal

TOPIC = "stock.web.v1"


@dataclass
class FakeMessage:
    partition_: int
    offset_: int
    key_: bytes | None
    value_: bytes | None
    headers_: list = field(default_factory=list)
    timestamp_: int = 0
    error_: KafkaError | None = None

    def error(self):
        return self.error_

    def topic(self):
        return TOPIC

    def partition(self):
        return self.partition_

    def offset(self):
        return self.offset_

    def key(self):
        return self.key_

    def value(self):
        return self.value_

    def headers(self):
        return self.headers_ or None

    def timestamp(self):
        return (1, self.timestamp_)


class FakeBroker:
    """Partitions, and what a group has committed. An item of a log may be a KafkaError."""

    def __init__(self, partitions: int = 1) -> None:
        self.logs: dict[int, list[FakeMessage]] = {n: [] for n in range(partitions)}
        self.committed: dict[int, TopicPartition] = {}

    def append(self, partition=0, key=b"A", value=None, headers=(), timestamp=0):
        log = self.logs[partition]
        log.append(FakeMessage(partition, len(log), key, value, list(headers), timestamp))
        return log[-1]

    def open(self, *_):
        return FakeConsumer(self)

    def offset(self, partition=0):
        kept = self.committed.get(partition)
        return None if kept is None else kept.offset


class FakeConsumer:
    """One member; it holds the partitions that `rebalance` has given it, at first all.

    As librdkafka does, it commits what is stored when a partition is revoked and on close.
    """

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.wanted: set[int] = set(broker.logs)
        self.positions: dict[int, int] = {}
        self.stored: dict[int, TopicPartition] = {}
        self.told_end: set[int] = set()
        self.errors: list[KafkaError] = []
        self.plan: tuple[int, set[int]] = (0, self.wanted)
        self.joined = False
        self.closed = False

    def rebalance(self, partitions, after: int = 0) -> None:
        """What the group agrees on; the member hears of it when it has polled `after` times."""
        self.plan = (after, set(partitions))

    def subscribe(self, topics, *, on_assign, on_revoke, on_lost):
        assert topics == [TOPIC]
        self.on_assign, self.on_revoke, self.on_lost = on_assign, on_revoke, on_lost

    def poll(self, timeout):
        assert not self.closed
        left, wanted = self.plan
        if left:
            self.plan = (left - 1, wanted)
        else:
            self.wanted = wanted
        if gone := set(self.positions) - self.wanted:
            self.on_revoke(self, [TopicPartition(TOPIC, n) for n in sorted(gone)])
            self.commit_stored(gone)
            for n in gone:
                del self.positions[n]
        come = self.wanted - set(self.positions)
        if come or not self.joined:
            self.joined = True
            self.on_assign(self, [TopicPartition(TOPIC, n) for n in sorted(come)])
        if self.errors:
            return FakeMessage(0, 0, None, None, error_=self.errors.pop(0))
        for n, position in self.positions.items():
            log = self.broker.logs[n]
            if position < len(log):
                self.positions[n] += 1
                self.told_end.discard(n)
                return log[position]
            if n not in self.told_end:
                self.told_end.add(n)
                end = KafkaError(KafkaError._PARTITION_EOF)
                return FakeMessage(n, position, None, None, error_=end)
        return None

    def store_offsets(self, *, offsets):
        for one in offsets:
            assert one.partition in self.positions, "stored for a partition of somebody else"
            assert one.offset <= self.positions[one.partition]
            self.stored[one.partition] = one

    def commit_stored(self, partitions=None):
        for n in set(self.stored) if partitions is None else set(self.stored) & set(partitions):
            self.broker.committed[n] = self.stored.pop(n)

    def committed(self, partitions, timeout):
        unknown = {one.partition: TopicPartition(TOPIC, one.partition, -1001) for one in partitions}
        return [
            self.broker.committed.get(one.partition, unknown[one.partition]) for one in partitions
        ]

    def get_watermark_offsets(self, partition, timeout):
        return 0, len(self.broker.logs[partition.partition])

    def incremental_assign(self, partitions):
        for one in partitions:
            self.positions[one.partition] = max(0, one.offset)
            self.told_end.discard(one.partition)

    def commit(self, *, offsets, asynchronous):
        for one in offsets:
            self.broker.committed[one.partition] = one

    def close(self):
        self.commit_stored()
        self.closed = True


def availability(sku="A", version=1, **fields):
    """The value of an availability message."""
    message = {
        "sku": sku,
        "channel": "web",
        "available": 5,
        "status": "in_stock",
        "previous_available": None,
        "backorderable": 0,
        "order_limit": 5,
        "version": version,
        "committed_at": "2026-11-21T06:19:24.255483Z",
        "restock_at": None,
    }
    return orjson.dumps({**message, **fields})


def movement(sku="A", version=2, kind="movement", **fields):
    """The value of a movement message of one unit that came."""
    is_balance = kind == "balance"
    message = {
        "kind": kind,
        "sku": sku,
        "warehouse": "W1",
        "delta_on_hand": None if is_balance else 1,
        "delta_reserved": None if is_balance else 0,
        "on_hand": 5,
        "reserved": 0,
        "reason": "receipt",
        "reference": None,
        "caused_by": None,
        "version": version,
        "previous_version": None,
        "movement_id": f"{sku}|W1|{version}",
        "committed_at": "2026-11-21T06:19:24.255483Z",
    }
    return orjson.dumps({**message, **fields})


def typed(kind=AVAILABILITY):
    """The headers that every message of a kind has."""
    return [("ce_type", f"stockwire.{kind.name}.v1".encode())]


def intake_of(broker, kind=AVAILABILITY, *, start="snapshot", echoes=False, remember=1000):
    consumer = broker.open()
    intake = Intake(consumer, TOPIC, kind, start=start, echoes=echoes, remember=remember)
    intake.subscribe()
    return consumer, intake


def steps(intake, limit=1):
    """What `next` gives, until the log is at its end."""
    idle = 0
    while idle < 3:
        item = intake.next()
        if item is None:
            intake.fetch(0, limit)
            idle = 0 if intake._pending else idle + 1
        else:
            idle = 0
            yield item


def drain(intake, limit=1):
    """Handle everything; what was given, in order."""
    given = []
    for item in steps(intake, limit):
        given.append(item)
        intake.done(item)
    return given


def versions(items):
    return [item.version for item in items if isinstance(item, Change)]


def told(items):
    return [item for item in items if not isinstance(item, Signal)]
