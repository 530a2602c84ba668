"""What a subscriber has after reading a channel's topic, and when it cannot read."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.report import Key
from audit.subscriber import Record, Subscriber, subscriber
from inventory.messages import movement_message
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.stock import Operation, StockChange, StockRow

LEDGER = ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1")
ROW = Key("S", "W")


def row(on_hand: int, version: int, reserved: int = 0) -> StockRow:
    return StockRow(on_hand, reserved, 0, 0, None, version)


def record(change: StockChange, partition: int = 0, timestamp_us: int = 1) -> Record:
    _, key, value, *_ = movement_message(change, LEDGER, "2026-11-21T06:00:00.000000Z")
    assert key is not None
    return Record(partition, key, value, timestamp_us)


def changes(*quantities: int | None) -> list[StockChange]:
    """A row with these quantities on hand one after the other; None while it is deleted."""
    found: list[StockChange] = []
    before: StockRow | None = None
    for n, on_hand in enumerate(quantities, start=1):
        after = None if on_hand is None else row(on_hand, 2 * n, reserved=on_hand // 2)
        operation = Operation.DELETE if after is None else Operation.UPDATE
        found.append(StockChange(operation, "S", "W", before, after, n))
        before = after
    return found


def balance(on_hand: int, version: int) -> StockChange:
    return StockChange(Operation.READ, "S", "W", None, row(on_hand, version, on_hand // 2), 0)


def read(records: list[Record], kind: ChannelKind, truncated: tuple[int, ...] = ()) -> Subscriber:
    reader = subscriber(kind, truncated, now_us=1_000)
    for each in records:
        reader.take(each)
    return reader


def ledger(records: list[Record], truncated: tuple[int, ...] = ()) -> object:
    return read(records, ChannelKind.MOVEMENT, truncated).snapshot().messages.get(ROW)


def account(on_hand: int, version: int) -> dict[str, int]:
    reserved = on_hand // 2
    return {
        "on_hand": on_hand,
        "reserved": reserved,
        "version": version,
        "sum_on_hand": on_hand,
        "sum_reserved": reserved,
    }


def test_movements_add_up_from_zero():
    assert ledger([*map(record, changes(10, 4, 7))]) == account(7, 6)


def test_a_row_that_was_deleted_is_gone_and_may_come_back():
    assert ledger([*map(record, changes(10, None))]) is None
    assert ledger([*map(record, changes(10, None, 3))]) == account(3, 6)


def test_a_missed_movement_shows_in_the_sum():
    first, _, third = changes(10, 4, 7)
    found = ledger([record(first), record(third)])
    assert isinstance(found, dict)
    assert (found["on_hand"], found["sum_on_hand"]) == (7, 13)


def test_a_delete_that_does_not_leave_zero_is_not_gone():
    first, _, last = changes(10, 4, None)
    found = ledger([record(first), record(last)])
    assert isinstance(found, dict)
    assert found["sum_on_hand"] == 6


def test_a_balance_is_where_the_sum_starts():
    _, second, third = changes(10, 4, 7)
    assert ledger([record(balance(10, 2)), record(second), record(third)]) == account(7, 6)


def test_a_later_balance_restarts_the_sum():
    _, _, third, fourth = changes(10, 4, 7, 5)
    found = ledger([record(third), record(balance(7, 6)), record(fourth)])
    assert found == account(5, 8)


def test_a_balance_that_comes_again_does_not_undo_movements():
    _, second, third = changes(10, 4, 7)
    batch = [record(balance(10, 2)), record(second), record(third)]
    assert ledger(batch + batch) == account(7, 6)


@given(
    quantities=st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=8),
    snapshot=st.booleans(),
    crashes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4),
)
def test_redelivery_changes_nothing(
    quantities: list[int | None], snapshot: bool, crashes: list[tuple[int, int]]
):
    history = [change for change in changes(*quantities) if change.before or change.after]
    records = [record(change) for change in ([balance(0, 0)] if snapshot else []) + history]
    delivered: list[Record] = []
    done = 0
    for more, back in [*crashes, (len(records), 0)]:
        # A worker gets so far, crashes, and its successor begins so much earlier.
        delivered += records[done : done + more]
        done = max(0, min(done + more, len(records)) - back)
    assert ledger(delivered) == ledger(records)


def test_after_retention_the_first_message_says_where_the_sum_starts():
    _, second, third = changes(10, 4, 7)
    assert ledger([record(second), record(third)], truncated=(0,)) == account(7, 6)
    assert ledger([record(second), record(third)]) != account(7, 6)


def test_messages_are_kept_since_the_youngest_beginning_of_a_truncated_partition():
    (change,) = changes(10)
    records = [record(change, partition=n, timestamp_us=100 + n) for n in (0, 1, 2)]
    records += [record(change, partition=n, timestamp_us=900) for n in (0, 1, 2)]

    def kept(*truncated: int) -> int | None:
        return read(records, ChannelKind.MOVEMENT, truncated).snapshot().kept_since_us

    assert kept() is None
    assert kept(0) == 100
    assert kept(0, 1) == 101
    assert kept(0, 3) == 1_000


def test_the_last_value_of_a_key_holds_and_a_tombstone_removes_it():
    def message(sku: str, available: int) -> Record:
        value = orjson.dumps({"sku": sku, "available": available})
        return Record(0, sku.encode(), value, 1)

    reader = read([message("A", 1), message("B", 2), message("A", 3)], ChannelKind.AVAILABILITY)
    assert reader.snapshot().messages == {
        Key("A"): {"sku": "A", "available": 3},
        Key("B"): {"sku": "B", "available": 2},
    }
    reader.take(Record(0, b"A", None, 1))
    assert reader.snapshot().messages.keys() == {Key("B")}


def test_levels_are_about_a_row():
    value = orjson.dumps({"sku": "A|B", "warehouse": "W", "on_hand": 1})
    found = read([Record(0, b"A|B|W", value, 1)], ChannelKind.LEVEL).snapshot().messages
    assert found.keys() == {Key("A|B", "W")}


@pytest.mark.parametrize("kind", ChannelKind)
@pytest.mark.parametrize("value", [b"{", b"[]", b"{}", b"null", b"7"])
def test_a_message_that_cannot_be_read_is_found_as_such(kind: ChannelKind, value: bytes):
    found = read([Record(0, b"A\xff", value, 1)], kind).snapshot().messages
    assert [*found] == [Key("A\ufffd")]
    assert found[Key("A\ufffd")].keys() == {"unreadable"}


def test_a_message_under_another_key_is_found_as_such():
    value = orjson.dumps({"sku": "A"})
    found = read([Record(0, b"B", value, 1)], ChannelKind.AVAILABILITY).snapshot().messages
    assert found == {Key("B"): {"unreadable": "it is about 'A'"}}
