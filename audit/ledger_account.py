"""What counts in a ledger: the one rule, for who reads a topic whole and who goes on. No I/O."""

from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from audit.report import Fields, Key
from stockwire_client.contract import MovementKind, MovementMessage

#: What reading raises at a message that no worker of ours wrote.
UNREADABLE_MESSAGE = (ValueError, KeyError, TypeError)

#: Movements behind a gap that are remembered one by one; the older ones can no longer be filled in.
_BEHIND_GAP = 16


class Left(NamedTuple):
    """How a message says that a row was left."""

    on_hand: int
    reserved: int
    version: int


class Movement(NamedTuple):
    """A message of a channel of kind movement.

    Attributes:
        deltas: units on hand and reserved; None for a balance.
        previous_version: of the row before; None for a new one.
    """

    movement_id: str
    left: Left
    deltas: tuple[int, int] | None
    previous_version: int | None


def read_movement(key: bytes, value: bytes) -> tuple[Key, Movement]:
    """A message, and the row that it is about.

    Raises:
        ValueError, KeyError, TypeError: no worker of ours wrote it (`UNREADABLE_MESSAGE`).
    """
    message: MovementMessage = orjson.loads(value)
    sku, warehouse, movement = message["sku"], message["warehouse"], message["movement_id"]
    if not all(isinstance(name, str) and name for name in (sku, warehouse, movement)):
        raise ValueError("no row's movement")
    if sku.encode() != key:
        raise ValueError(f"it is about {sku!r}")
    left = Left(*map(_whole, (message["on_hand"], message["reserved"], message["version"])))
    deltas = None
    if MovementKind(message["kind"]) is MovementKind.MOVEMENT:
        if message["delta_on_hand"] is None or message["delta_reserved"] is None:
            raise ValueError(f"movement {movement} has no deltas")
        deltas = (_whole(message["delta_on_hand"]), _whole(message["delta_reserved"]))
    previous = message.get("previous_version")
    return Key(sku, warehouse), Movement(
        movement, left, deltas, None if previous is None else _whole(previous)
    )


def _whole(number: object) -> int:
    # True is an int to Python, and 1 to nobody else.
    if type(number) is not int or not -(2**63) <= number < 2**63:
        raise ValueError("not a whole number")
    return number


@dataclass(slots=True)
class LedgerAccount:
    """One stock row, added up from its messages in the order of the topic.

    A movement counts once by its `movement_id`. A balance starts the sum anew, unless it is older
    than what was counted: then it is a redelivery. What is kept is bounded: up to `floor` the
    movements have come one after the other, and only those behind a gap are remembered.

    Attributes:
        from_start: no earlier message can have expired, so that the sum starts from zero.
        on_hand: the last balance and the movements since, in units; `reserved` alike.
        last: how the last message left the row.
        gap: whether a version is missing since the last balance.
        floor: of what is in no higher version, everything is counted.
        highest: version of all messages.
        behind_gap: version of each movement that was counted and is above the floor, by its id.
    """

    from_start: bool
    on_hand: int = 0
    reserved: int = 0
    last: Left | None = None
    gap: bool = False
    floor: int = -1
    highest: int = -1
    behind_gap: dict[str, int] = field(default_factory=dict)

    def add(self, movement: Movement) -> None:
        """Count one message."""
        left = movement.left
        if movement.deltas is None:
            if left.version >= self.highest:
                self.on_hand, self.reserved = left.on_hand, left.reserved
                self.floor = left.version
                self.gap = False
                self.behind_gap.clear()
        elif left.version > self.floor and movement.movement_id not in self.behind_gap:
            self._count(movement, *movement.deltas)
        self.highest = max(self.highest, left.version)
        self.last = left

    def _count(self, movement: Movement, on_hand: int, reserved: int) -> None:
        left, previous = movement.left, movement.previous_version
        if self.last is None and not self.from_start:
            self.on_hand, self.reserved = left.on_hand, left.reserved
            self.floor = left.version
            return
        self.gap = self.gap or (previous is not None and previous > self.highest)
        self.on_hand += on_hand
        self.reserved += reserved
        # Rows have even versions; a new one follows nothing (-1) or a delete.
        if previous <= self.floor if previous is not None else self.floor % 2 == 1:
            self.floor = left.version
        else:
            self.behind_gap[movement.movement_id] = left.version
            if len(self.behind_gap) > _BEHIND_GAP:
                first = next(iter(self.behind_gap))
                self.floor = max(self.floor, self.behind_gap.pop(first))

    def fields(self) -> Fields | None:
        """What must be equal to the row; None when the row was deleted and nothing is left."""
        if self.last is None:
            return None
        # A delete counts as the last version + 1 (DESIGN §3).
        if self.last.version % 2 == 1 and self.on_hand == self.reserved == 0:
            return None
        return {
            **({"gap": True} if self.gap else {}),
            "on_hand": self.last.on_hand,
            "reserved": self.last.reserved,
            "version": self.last.version,
            "sum_on_hand": self.on_hand,
            "sum_reserved": self.reserved,
        }
