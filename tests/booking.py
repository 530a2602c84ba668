"""A ledger that adds up what it is told: the last balance of each row, and what moved since."""

from collections.abc import Iterable, Mapping
from typing import Any

#: (on hand, reserved)
Quantities = tuple[int, int]
Row = tuple[str, str]


def booked(messages: Iterable[Any]) -> dict[Row, list[Any]]:
    """By row, its last balance if there is one, and each movement after it once, by version.

    A movement that the balance includes is none: a worker that was killed tells it again.
    """
    balances: dict[Row, Any] = {}
    movements: dict[Row, dict[str, Any]] = {}
    for told in messages:
        row = told["sku"], told["warehouse"]
        later = movements.setdefault(row, {})
        if told["kind"] == "balance":
            balances[row] = told
            later.clear()
        elif row not in balances or told["version"] > balances[row]["version"]:
            later[told["movement_id"]] = told
    return {
        row: [
            *([balances[row]] if row in balances else []),
            *sorted(later.values(), key=lambda told: told["version"]),
        ]
        for row, later in movements.items()
    }


def assert_adds_up(rows: Mapping[Row, Quantities], messages: Iterable[Any]) -> None:
    """What a ledger has booked are these quantities, and no movement is missing in between."""
    books = booked(messages)
    assert books.keys() >= rows.keys(), sorted(rows.keys() - books.keys())[:5]
    for row, told in books.items():
        on_hand = reserved = 0
        version = None
        for each in told:
            if each["kind"] == "balance":
                on_hand, reserved = each["on_hand"], each["reserved"]
            else:
                # A deleted row has an odd version, and the next one begins anew.
                gone = version is None or version % 2
                assert each["previous_version"] == (None if gone else version), (row, each, told)
                on_hand += each["delta_on_hand"]
                reserved += each["delta_reserved"]
            assert (on_hand, reserved) == (each["on_hand"], each["reserved"]), (row, each)
            version = each["version"]
        assert (on_hand, reserved) == rows.get(row, (0, 0)), (row, told[-3:])
