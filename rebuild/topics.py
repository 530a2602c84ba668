"""Reads the compacted topics of stock and overrides, without a consumer group."""

import time
from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from audit.topics import kafka_outages, open_consumer, watermarks
from connectors.envelope import read_stock_change
from connectors.policy_envelope import read_override_change
from inventory.errors import InvalidEvent, Outage
from inventory.groups import LEDGER, REPAIR, replaced_version
from inventory.policy import ChannelOverride
from inventory.stock import StockLevel, level_of
from inventory.topics import CHANNEL_SKU, STOCK
from projections.ports import NOTHING_REPLACED, Changes, Replaced, SkuChanges
from rebuild.portion import Portion
from rebuild.progress import Plan

#: Overrides first, as they are few: most SKUs are then projected once.
TOPICS = (CHANNEL_SKU, STOCK)

#: Records of a portion: about 5 MB.
RECORDS = 5_000

#: Records of a part that are held for the workers to apply them.
_WAITING = 5_000

_TIMEOUT = 15.0
_POLL = 0.2
#: Records that workers apply meanwhile are waited for so long.
_FOLLOW = 0.02


def part_of(topic: str, partition: int) -> str:
    """The name of a part; the checkpoint's fields are named in the same way."""
    return f"{topic}/{partition}"


def place_of(part: str) -> tuple[str, int]:
    """The inverse of `part_of`."""
    topic, _, partition = part.rpartition("/")
    return topic, int(partition)


def bounds(bootstrap: str) -> dict[str, tuple[int, int]]:
    """The first offset of each part and the one after its last record, now.

    Raises:
        Outage: Kafka does not answer.
        AuditError: a topic is missing.
    """
    consumer = open_consumer(bootstrap)
    try:
        return {
            part_of(topic, partition): offsets
            for topic in TOPICS
            for partition, offsets in watermarks(consumer, topic).items()
        }
    finally:
        consumer.close()


def ends(bootstrap: str) -> dict[str, int]:
    """The offset after the last record of each part, now; see `bounds`."""
    return {part: end for part, (_, end) in bounds(bootstrap).items()}


def topic_plan(bootstrap: str, applied: Mapping[str, int]) -> Plan:
    """What there is to read; each part ends where the workers are, if that is known."""
    found = bounds(bootstrap)
    parts = {part: min(end, applied.get(part, end)) for part, (_, end) in found.items()}
    starts = {part: min(low, parts[part]) for part, (low, _) in found.items()}
    first = sum(starts.values())
    return Plan(
        {part: str(end) for part, end in parts.items()},
        {part: str(start) for part, start in starts.items()},
        {"first": str(first), "whole": str(sum(parts.values()) - first)},
    )


def read_upto(
    consumer: Consumer, place: tuple[str, int], position: int, end: int
) -> Iterator[tuple[list[Message], int]]:
    """The records of one partition before `end`, in portions, each with the offset after it.

    Raises:
        Outage: Kafka does not answer, or sends nothing.
    """
    with kafka_outages():
        consumer.assign([TopicPartition(*place, position)])
    while position < end:
        records: list[Message] = []
        heard = time.monotonic()
        while position < end and len(records) < RECORDS:
            with kafka_outages():
                messages = consumer.consume(RECORDS - len(records), timeout=_POLL)
            for message in messages:
                # Compaction leaves gaps, also at the end.
                position = max(position, next_offset(message))
                if message.error() is None and message.offset() < end:
                    records.append(message)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > _TIMEOUT:
                raise Outage(f"Kafka sent nothing of {place[0]} for {_TIMEOUT:.0f} s; see its log.")
        position = min(position, end)
        yield records, position


class TopicSource:
    """The `rebuild.portion.Source` that reads Kafka; each part is a partition up to an offset."""

    def __init__(self, bootstrap: str) -> None:
        """Read from these brokers."""
        self._consumer = open_consumer(bootstrap)

    def portions(self, part: str, start: str | None, end: str) -> Iterator[Portion]:
        """See `rebuild.portion.Source.portions`."""
        found = read_upto(self._consumer, place_of(part), int(start or 0), int(end))
        for records, position in found:
            yield portion_of(records, {part: str(position)})

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()


class Following:
    """Reads both topics from where the parts ended, but never past what the workers have applied.

    So whatever is read, the workers have written before. Of a part that the workers are far behind
    in, no more is fetched until they have caught up with what waits.
    """

    def __init__(self, bootstrap: str, positions: Mapping[str, int]) -> None:
        """Begin at these offsets, by part."""
        self._consumer = open_consumer(bootstrap)
        self._reached = dict(positions)
        self._waiting: dict[str, list[Message]] = {part: [] for part in positions}
        self._full: set[str] = set()
        with kafka_outages():
            self._consumer.assign([self._place(part) for part in positions])

    @property
    def waiting(self) -> int:
        """How many records are held that the workers have not applied."""
        return sum(map(len, self._waiting.values()))

    def poll(self) -> None:
        """Fetch what has come."""
        with kafka_outages():
            messages = self._consumer.consume(RECORDS, timeout=_FOLLOW)
        for message in messages:
            offset = next_offset(message)
            part = part_of(message.topic() or "", message.partition() or 0)
            if part not in self._reached:
                continue  # an error that passes, of all partitions
            if part in self._full:
                continue  # fetched before it was full, and fetched again after
            self._reached[part] = max(self._reached[part], offset)
            if message.error() is None:
                self._waiting[part].append(message)
                if len(self._waiting[part]) >= _WAITING:
                    self._fill(part)

    def upto(self, applied: Mapping[str, int]) -> Portion:
        """What was fetched up to these offsets; its positions are those of all parts."""
        ready: list[Message] = []
        positions = {}
        for part, waiting in self._waiting.items():
            end = applied.get(part, 0)
            split = sum(1 for message in waiting if (message.offset() or 0) < end)
            ready += waiting[:split]
            self._waiting[part] = rest = waiting[split:]
            if part in self._full and len(rest) < _WAITING // 2:
                self._go_on(part)
            reached = (rest[0].offset() or 0) if rest else self._reached[part]
            positions[part] = str(reached)
        return portion_of(ready, positions)

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _place(self, part: str) -> TopicPartition:
        return TopicPartition(*place_of(part), self._reached[part])

    def _fill(self, part: str) -> None:
        self._full.add(part)
        with kafka_outages():
            self._consumer.incremental_unassign([self._place(part)])

    def _go_on(self, part: str) -> None:
        self._full.remove(part)
        with kafka_outages():
            self._consumer.incremental_assign([self._place(part)])


def next_offset(message: Message) -> int:
    """The offset after a message; an end of a partition is one, too.

    Raises:
        KafkaException: it is an error that does not pass.
    """
    error, offset = message.error(), message.offset()
    if error is None:
        return int(offset) + 1
    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's name
        return int(offset)
    if not error.retriable():
        with kafka_outages():
            raise KafkaException(error)
    return 0


def portion_of(records: Iterable[Message], positions: Mapping[str, str]) -> Portion:
    """Records as changes: the latest version of each row, by SKU.

    A version that the auditor says is false gives way, as in `stream.changes.conflate`.
    """
    levels: dict[str, dict[str, StockLevel]] = {}
    overrides: dict[str, dict[str, ChannelOverride]] = {}
    replaced: dict[str, tuple[dict[str, int], dict[str, int]]] = {}
    partitions: dict[str, int] = {}
    count = rejected = 0
    for record in records:
        count += 1
        value, headers = record.value(), record.headers()
        # A tombstone follows its delete event and says nothing new.
        if value is None or (headers and (REPAIR, LEDGER.encode()) in headers):
            continue
        try:
            false = replaced_version(dict(headers)) if headers else None
            if record.topic() == CHANNEL_SKU:
                sku, about = _take_override(value, overrides, false)
            else:
                sku, about = _take_level(value, levels, false)
        except InvalidEvent:
            rejected += 1  # the workers have set it aside
            continue
        partitions[sku] = record.partition() or 0
        if false is not None:
            of = replaced.setdefault(sku, ({}, {}))
            of[record.topic() == CHANNEL_SKU][about] = false
    changes: Changes = {
        sku: SkuChanges(
            levels.get(sku, {}),
            overrides.get(sku, {}),
            partition,
            replaced=Replaced(*replaced[sku]) if sku in replaced else NOTHING_REPLACED,
        )
        for sku, partition in partitions.items()
    }
    return Portion(changes, positions, count, rejected)


def _take_level(
    value: bytes, levels: dict[str, dict[str, StockLevel]], false: int | None
) -> tuple[str, str]:
    """The SKU and the warehouse that it is about."""
    change = read_stock_change(value)
    rows = levels.setdefault(change.sku, {})
    known = rows.get(change.warehouse)
    if known is None or known.version == false or change.version >= known.version:
        rows[change.warehouse] = level_of(change)
    return change.sku, change.warehouse


def _take_override(
    value: bytes, overrides: dict[str, dict[str, ChannelOverride]], false: int | None
) -> tuple[str, str]:
    """The SKU and the channel that it is about."""
    change = read_override_change(value)
    own = overrides.setdefault(change.sku, {})
    known = own.get(change.channel)
    version = change.override.version
    if known is None or known.version == false or version >= known.version:
        own[change.channel] = change.override
    return change.sku, change.channel
