"""What a subscriber of a channel has after reading its topic. No I/O."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import orjson

from audit.compare import TopicSnapshot
from audit.ledger_account import UNREADABLE_MESSAGE, LedgerAccount, read_movement
from audit.report import Fields, Key, unreadable
from inventory.names import level_key
from inventory.policy import ChannelKind


class Record(NamedTuple):
    """A Kafka record; its timestamp is Kafka's, in µs since the epoch."""

    partition: int
    key: bytes
    value: bytes | None
    timestamp_us: int


class Subscriber(Protocol):
    """Takes a topic's messages in order, partition by partition."""

    def take(self, record: Record) -> None:
        """Take one message."""
        ...

    def snapshot(self) -> TopicSnapshot:
        """What there is by now. A message that cannot be read is `{"unreadable": why}`."""
        ...


class LatestMessages:
    """State: the last message of a key holds, a tombstone removes it.

    Args:
        key_of: what a message is about, and the Kafka key that it must have.
    """

    def __init__(self, key_of: Callable[[Any], tuple[Key, str]]) -> None:
        self._key_of = key_of
        self._latest: dict[bytes, bytes] = {}

    def take(self, record: Record) -> None:
        """See `Subscriber.take`."""
        if record.value is None:
            self._latest.pop(record.key, None)
        else:
            self._latest[record.key] = record.value

    def snapshot(self) -> TopicSnapshot:
        """See `Subscriber.snapshot`."""
        # Only now is JSON read: of a hundred messages of a key, the last one counts.
        return TopicSnapshot(dict(map(self._read, self._latest.items())))

    def _read(self, message: tuple[bytes, bytes]) -> tuple[Key, Fields]:
        key, value = message
        try:
            fields = orjson.loads(value)
            about, name = self._key_of(fields)
            if name.encode() != key:
                raise ValueError(f"it is about {name!r}")
        except UNREADABLE_MESSAGE as exc:
            return Key(key.decode(errors="replace")), unreadable(exc)
        return about, fields


class Ledger:
    """Movements, added up for each stock row.

    Args:
        truncated: partitions whose first messages have expired.
        now_us: the present, in µs since the epoch.
    """

    def __init__(self, truncated: Iterable[int], now_us: int) -> None:
        # Where nothing is left, anything up to now can have expired.
        self._kept_since_us = dict.fromkeys(truncated, now_us)
        self._begun: set[int] = set()
        self._accounts: dict[Key, LedgerAccount] = {}
        self._unreadable: dict[Key, Fields] = {}

    def take(self, record: Record) -> None:
        """See `Subscriber.take`."""
        if record.value is None:
            return  # the end of a back-fill
        partition = record.partition
        if partition in self._kept_since_us and partition not in self._begun:
            self._begun.add(partition)
            self._kept_since_us[partition] = record.timestamp_us
        try:
            row, movement = read_movement(record.key, record.value)
        except UNREADABLE_MESSAGE as exc:
            self._unreadable[Key(record.key.decode(errors="replace"))] = unreadable(exc)
            return
        account = self._accounts.get(row)
        if account is None:
            account = LedgerAccount(from_start=partition not in self._kept_since_us)
            self._accounts[row] = account
        account.add(movement)

    def snapshot(self) -> TopicSnapshot:
        """See `Subscriber.snapshot`."""
        found = {row: account.fields() for row, account in self._accounts.items()}
        return TopicSnapshot(
            {row: fields for row, fields in found.items() if fields is not None} | self._unreadable,
            max(self._kept_since_us.values(), default=None),
        )


def subscriber(kind: ChannelKind, truncated: Iterable[int], now_us: int) -> Subscriber:
    """What a subscriber of a channel of this kind keeps; for the rest see `Ledger`."""
    match kind:
        case ChannelKind.AVAILABILITY:
            return LatestMessages(lambda m: (Key(m["sku"]), m["sku"]))
        case ChannelKind.LEVEL:
            return LatestMessages(
                lambda m: (Key(m["sku"], m["warehouse"]), level_key(m["sku"], m["warehouse"]))
            )
        case ChannelKind.MOVEMENT:
            return Ledger(truncated, now_us)
