"""What is compared, as short texts: where two are equal, `audit.compare` finds no drift. No I/O.

A message or a row is a text of what it says, without its version where that has a place of its own.
What cannot be read is `UNREADABLE`, which equals nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from audit.ledger_account import UNREADABLE_MESSAGE, Movement, read_movement
from audit.report import Fields, unreadable
from inventory.availability import Availability
from inventory.messages import timestamp
from inventory.names import level_key
from inventory.policy import ChannelKind, ChannelOverride
from inventory.stock import StockLevel

UNREADABLE = "?"

_LEVEL = ("on_hand", "reserved", "safety_stock", "incoming", "available")


class Told(NamedTuple):
    """The last message about a SKU, or about a row of it.

    Attributes:
        warehouse: empty where the message is about the SKU.
        said: as `available_text`, `level_text` or `movement_text`; None once it is gone.
        movement: what a ledger was told; what is said of it depends on what it was told before.
        partition: of the topic.
    """

    sku: str
    warehouse: str
    said: str | None
    version: int
    movement: Movement | None = None
    partition: int = 0


def row_text(level: StockLevel) -> str:
    """A live row as its text in Redis begins (`projections.codec.encode_level`)."""
    arrives = "-" if level.incoming_at is None else level.incoming_at
    return (
        f"{level.version} {level.on_hand} {level.reserved} {level.safety_stock} "
        f"{level.incoming} {arrives}"
    )


def override_text(override: ChannelOverride) -> str:
    """An override as in Redis (`projections.codec.encode_override`), without its commit time."""
    version, _, *rest = override
    return " ".join("-" if value is None else str(int(value)) for value in (version, *rest))


def shown_text(promised: Availability | None) -> str:
    """What readers must see on a channel, the version aside; empty for nothing."""
    if promised is None:
        return ""
    return f"{promised.available} {promised.status} {promised.backorderable} {promised.order_limit}"


def available_text(shown: str, restock_at: int | None) -> str:
    """What a channel must be told that promises this; `restock_at` in ms since the epoch."""
    return f"{shown} {'-' if restock_at is None else timestamp(restock_at * 1000)}"


def level_text(level: StockLevel) -> str:
    """What a channel of kind level must be told of a row."""
    return f"{level.on_hand} {level.reserved} {level.safety_stock} {level.incoming} {level.free}"


def movement_text(level: StockLevel) -> str:
    """How the last movement of a row must leave it, and what all of them must add up to."""
    return f"{level.on_hand} {level.reserved}"


def booked_text(account: Fields) -> str:
    """What a ledger has of a row; where it adds up, that is the quantities alone."""
    booked = [account["on_hand"], account["reserved"]]
    sums = [account["sum_on_hand"], account["sum_reserved"]]
    if sums == booked:
        return " ".join(map(str, booked))
    return " ".join(map(str, [*booked, *sums, *(["gap"] if account.get("gap") else [])]))


def told(kind: ChannelKind, key: bytes, value: bytes | None, partition: int = 0) -> Told | None:
    """A record of a channel's topic; None where it says nothing, such as the end of a back-fill."""
    name = key.decode(errors="replace")
    if value is None:
        if kind is ChannelKind.MOVEMENT or name.startswith(":snapshot/"):
            return None
        sku, warehouse = _about(kind, name)
        return Told(sku, warehouse, None, 0)
    try:
        if kind is ChannelKind.MOVEMENT:
            (sku, code), movement = read_movement(key, value)
            left = movement.left
            text = f"{left.on_hand} {left.reserved}"
            return Told(sku, code or "", text, left.version, movement, partition)
        return _READ[kind](orjson.loads(value), name)
    except UNREADABLE_MESSAGE:
        sku, warehouse = _about(kind, name)
        return Told(sku, warehouse, UNREADABLE, 0)


def message_fields(kind: ChannelKind, said: str, version: int) -> Fields:
    """The fields of a message that `audit.compare` looks at; of a ledger, those of an account."""
    if said == UNREADABLE:
        return unreadable(ValueError("no worker has written this message"))
    words = said.split(" ")
    if kind is ChannelKind.AVAILABILITY:
        available, status, backorderable, limit, restock_at = words
        return {
            "available": int(available),
            "status": status,
            "backorderable": int(backorderable),
            "order_limit": int(limit),
            "restock_at": None if restock_at == "-" else restock_at,
            "version": version,
        }
    gap = words[-1] == "gap"
    numbers = [int(word) for word in (words[:-1] if gap else words)]
    if kind is ChannelKind.LEVEL:
        return {**dict(zip(_LEVEL, numbers, strict=True)), "version": version}
    on_hand, reserved, *sums = numbers
    sum_on_hand, sum_reserved = sums or (on_hand, reserved)
    return {
        **({"gap": True} if gap else {}),
        "on_hand": on_hand,
        "reserved": reserved,
        "version": version,
        "sum_on_hand": sum_on_hand,
        "sum_reserved": sum_reserved,
    }


def _about(kind: ChannelKind, name: str) -> tuple[str, str]:
    """SKU and warehouse of a key; one without a bar is taken for a SKU."""
    if kind is ChannelKind.LEVEL:
        sku, bar, warehouse = name.rpartition("|")
        return (sku, warehouse) if bar else (name, "")
    return name, ""


def _availability(message: Mapping[str, Any], name: str) -> Told:
    status, restock_at = message["status"], message["restock_at"]
    numbers = _whole(message, "available", "backorderable", "order_limit", "version")
    available, backorderable, limit, version = numbers
    if message["sku"] != name or not isinstance(status, str) or " " in status:
        raise ValueError("not what it should be about")
    if restock_at is None:
        restock_at = "-"
    elif restock_at == "-" or " " in restock_at:
        raise ValueError("not a time")
    return Told(name, "", f"{available} {status} {backorderable} {limit} {restock_at}", version)


def _level(message: Mapping[str, Any], name: str) -> Told:
    sku, warehouse = message["sku"], message["warehouse"]
    if level_key(sku, warehouse) != name:
        raise ValueError("not what it should be about")
    *numbers, version = _whole(message, *_LEVEL, "version")
    return Told(sku, warehouse, " ".join(map(str, numbers)), version)


def _whole(message: Mapping[str, Any], *names: str) -> list[int]:
    numbers = [message[name] for name in names]
    for number in numbers:
        # True is an int to Python, and 1 to nobody else.
        if type(number) is not int or not -(2**63) <= number < 2**63:
            raise ValueError("not a whole number")
    return numbers


_READ = {
    ChannelKind.AVAILABILITY: _availability,
    ChannelKind.LEVEL: _level,
}
