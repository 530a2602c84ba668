"""What a subscriber of a channel has after reading its topic. No I/O."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import orjson

from audit.compare import TopicSnapshot
from audit.report import Fields, Key, unreadable
from inventory.names import level_key
from inventory.policy import ChannelKind
from stockwire_client.contract import MovementKind, MovementMessage

#: What reading raises at a message that no worker of ours wrote.
_UNREADABLE = (ValueError, KeyError, TypeError)


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
        except _UNREADABLE as exc:
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
            message: MovementMessage = orjson.loads(record.value)
            row = Key(message["sku"], message["warehouse"])
            account = self._accounts.get(row)
            if account is None:
                account = LedgerAccount(from_start=partition not in self._kept_since_us)
                self._accounts[row] = account
            account.add(message)
        except _UNREADABLE as exc:
            self._unreadable[Key(record.key.decode(errors="replace"))] = unreadable(exc)

    def snapshot(self) -> TopicSnapshot:
        """See `Subscriber.snapshot`."""
        found = {row: account.fields() for row, account in self._accounts.items()}
        return TopicSnapshot(
            {row: fields for row, fields in found.items() if fields is not None} | self._unreadable,
            max(self._kept_since_us.values(), default=None),
        )


@dataclass(slots=True, eq=False)
class LedgerAccount:
    """One stock row, added up from its messages in the order of the topic.

    A movement counts once by its `movement_id`. A balance starts the sum anew, unless it is older
    than what was counted: then it is a redelivery.

    Attributes:
        from_start: no earlier message can have expired, so that the sum starts from zero.
        on_hand: the last balance and the movements since, in units; `reserved` alike.
        gap: whether a version is missing since the last balance.
        last: the last message.
    """

    from_start: bool
    on_hand: int = 0
    reserved: int = 0
    last: MovementMessage | None = None
    gap: bool = False
    _balance: int = -1
    _highest: int = -1
    _counted: set[str] = field(default_factory=set)

    def add(self, message: MovementMessage) -> None:
        """Count one message.

        Raises:
            ValueError: a movement does not say what moved.
        """
        version, movement = message["version"], message["movement_id"]
        if message["kind"] == MovementKind.BALANCE:
            if version >= self._highest:
                self.on_hand, self.reserved = message["on_hand"], message["reserved"]
                self._balance = version
                self.gap = False
        elif movement not in self._counted and version > self._balance:
            on_hand, reserved = message["delta_on_hand"], message["delta_reserved"]
            if on_hand is None or reserved is None:
                raise ValueError(f"movement {movement} has no deltas")
            self.gap = self.gap or self._misses(message.get("previous_version"))
            if self.last is None and not self.from_start:
                self.on_hand = message["on_hand"] - on_hand
                self.reserved = message["reserved"] - reserved
            self.on_hand += on_hand
            self.reserved += reserved
            self._counted.add(movement)
        self._highest = max(self._highest, version)
        self.last = message

    def _misses(self, previous: int | None) -> bool:
        """Whether the movement that left this version has not come; a new row has none."""
        if previous is None or (self.last is None and not self.from_start):
            return False
        return previous > self._highest

    def fields(self) -> Fields | None:
        """What must be equal to the row; None when the row was deleted and nothing is left."""
        if self.last is None:
            return None
        # Rows have even versions; a delete counts as the last one + 1 (DESIGN §3).
        if self.last["version"] % 2 == 1 and self.on_hand == self.reserved == 0:
            return None
        return {
            **({"gap": True} if self.gap else {}),
            "on_hand": self.last["on_hand"],
            "reserved": self.last["reserved"],
            "version": self.last["version"],
            "sum_on_hand": self.on_hand,
            "sum_reserved": self.reserved,
        }


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
