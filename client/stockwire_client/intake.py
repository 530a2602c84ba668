"""What a subscription does with records, apart from waiting for them and handling them.

One record at a time: `next` gives what is to be handled, `done` says that it was. Between the two
nothing is fetched, so a rebalance never meets a handler at work.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from stockwire_client.contract import SNAPSHOT, SNAPSHOT_LAST, SNAPSHOT_PART
from stockwire_client.errors import InvalidMessage, Refused, Unavailable
from stockwire_client.kafka import KafkaConsumer, KafkaMessage, log
from stockwire_client.messages import Change, Kind, Record
from stockwire_client.progress import Progress
from stockwire_client.seen import Seen

M = TypeVar("M")

#: From the whole state, or from now; both only where the group has not committed anything yet.
Start = Literal["snapshot", "now"]

_RPC_TIMEOUT: Final = 30.0
_REFUSALS: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    }
)


class Signal(Enum):
    """What `next` gives beside messages."""

    SNAPSHOT_COMPLETE = auto()


class _EndOfPartition(NamedTuple):
    partition: int


@dataclass(slots=True)
class _Partition:
    progress: Progress
    seen: Seen = field(repr=False)


class Intake(Generic[M]):
    """Fetched records of one topic, and what is known of its partitions.

    Args:
        remember: how many keys or ids of a partition are kept to know stale messages by.
        echoes: whether to give what the channel itself has caused.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        topic: str,
        kind: Kind[M],
        *,
        start: Start,
        echoes: bool,
        remember: int,
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._kind = kind
        self._start = start
        self._echoes = echoes
        self._remember = remember
        self._pending: deque[Record | _EndOfPartition] = deque()
        self._partitions: dict[int, _Partition] = {}
        self._announced = False

    def subscribe(self) -> None:
        """Join the group."""
        self._consumer.subscribe(
            [self._topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    @property
    def snapshot_complete(self) -> bool:
        """Whether every partition that is read here has shown the whole state, all handled.

        False while there is none: who joins a group may be given its partitions a little later.
        """
        partitions = self._partitions
        return bool(partitions) and all(one.progress.complete for one in partitions.values())

    def fetch(self, timeout: float, limit: int = 1) -> None:
        """Wait for records up to `timeout` seconds, and take up to `limit` that are there.

        Raises:
            Refused: the topic does not exist or may not be read.
            Unavailable: Kafka did not answer when partitions were assigned.
        """
        message = self._consumer.poll(timeout)
        while message is not None:
            self._take(message)
            if len(self._pending) >= limit:
                return
            message = self._consumer.poll(0)

    def next(self) -> Change[M] | InvalidMessage | Signal | None:
        """What to handle; the same again until `done` is called, None when nothing is left."""
        while True:
            if not self._announced and self.snapshot_complete:
                return Signal.SNAPSHOT_COMPLETE
            if not self._pending:
                return None
            item = self._pending[0]
            if isinstance(item, _EndOfPartition):
                self._partitions[item.partition].progress.caught_up(int(time.time() * 1000))
                self._pending.popleft()
                continue
            try:
                change = self._read(item)
            except InvalidMessage as exc:
                return exc
            if change is not None:
                return change
            self._pass(item)

    def done(self, item: Change[M] | InvalidMessage | Signal) -> None:
        """What `next` gave was handled: its offset may be committed, and it is not given again."""
        if isinstance(item, Signal):
            self._announced = True
            return
        record = self._pending[0]
        assert isinstance(record, Record)
        if isinstance(item, Change):
            self._partitions[record.partition].seen.add(self._kind, item)
        self._pass(record)

    def _read(self, record: Record) -> Change[M] | None:
        """The change that a record tells, None for one that is not to be handled."""
        headers = dict(record.headers)
        state = self._partitions[record.partition]
        if headers.get(SNAPSHOT) == SNAPSHOT_LAST:
            part, parts = _part(record, headers.get(SNAPSHOT_PART))
            state.progress.part_ended(part, parts, record.timestamp)
            return None
        change = self._kind.read(record)
        if not state.seen.is_news(self._kind, change):
            return None
        if change.echo and not self._echoes:
            state.seen.add(self._kind, change)
            return None
        return change

    def _pass(self, record: Record) -> None:
        progress = self._partitions[record.partition].progress
        if any(name == SNAPSHOT and value != SNAPSHOT_LAST for name, value in record.headers):
            progress.snapshot_message(record.timestamp)
        self._consumer.store_offsets(
            offsets=[self._position(record.partition, record.offset + 1, progress)]
        )
        self._pending.popleft()

    def _position(self, partition: int, offset: int, progress: Progress) -> TopicPartition:
        return TopicPartition(self._topic, partition, offset, metadata=progress.metadata)

    def _take(self, message: KafkaMessage) -> None:
        error = message.error()
        partition, offset = message.partition(), message.offset()
        if error is None:
            assert partition is not None
            assert offset is not None
            self._pending.append(
                Record(
                    self._topic,
                    partition,
                    offset,
                    message.key(),
                    message.value(),
                    message.headers() or (),
                    message.timestamp()[1],
                )
            )
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            assert partition is not None
            self._pending.append(_EndOfPartition(partition))
        elif error.fatal() or error.code() in _REFUSALS:
            raise Refused(
                f"Kafka does not let {self._topic} be read ({error}): "
                "check the channel's name and what this user may read."
            )
        else:
            log.warning("Kafka: %s", error)

    def _on_assign(self, _: Any, partitions: list[TopicPartition]) -> None:
        try:
            begin, from_now = [], []
            states = {}
            for one in self._consumer.committed(partitions, timeout=_RPC_TIMEOUT):
                progress = Progress(one.metadata)
                if one.offset < 0 and self._start == "now":
                    _, end = self._consumer.get_watermark_offsets(one, timeout=_RPC_TIMEOUT)
                    progress = Progress(complete=True)
                    one = self._position(one.partition, end, progress)
                    from_now.append(one)
                elif one.offset < 0:
                    one = self._position(one.partition, OFFSET_BEGINNING, progress)
                begin.append(one)
                states[one.partition] = _Partition(progress, Seen(self._remember))
            # A new dict each time: another thread may be asking whether the snapshot is complete.
            self._partitions = {**self._partitions, **states}
            self._consumer.incremental_assign(begin)
            if from_now:
                # A crash before the first message must not make "now" a later moment.
                self._consumer.commit(offsets=from_now, asynchronous=False)
        except KafkaException as exc:
            raise Unavailable(
                f"Kafka did not say where to begin in {self._topic} ({exc}); subscribe again."
            ) from exc

    def _on_revoke(self, _: Any, partitions: list[TopicPartition]) -> None:
        # librdkafka commits what is stored; the next owner gets what was fetched and not handled.
        gone = {one.partition for one in partitions}
        self._pending = deque(item for item in self._pending if item.partition not in gone)
        self._partitions = {n: state for n, state in self._partitions.items() if n not in gone}


def _part(record: Record, value: bytes | None) -> tuple[int, int]:
    part, slash, parts = (value or b"").partition(b"/")
    if not (slash and part.isdigit() and parts.isdigit() and int(part) < int(parts) <= 1024):
        raise record.poison(f"{SNAPSHOT_PART} is {value!r}, not <part>/<parts>")
    return int(part), int(parts)
