"""A ledger's accounts in the auditor's file: as who reads the whole topic has them, at any time."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.continuous.screen import Seen, suspects
from audit.continuous.texts import message_fields, told
from audit.continuous.told import Place, ToldStore
from audit.report import Fields, Key
from audit.subscriber import Record, subscriber
from inventory.messages import movement_message
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.stock import Operation, StockChange, StockLevel, StockRow
from tests.audit_world import world
from tests.histories import Change, histories

ERP = ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1")
ROW = Key("S", "ams")


def messages(history: Iterable[Change], balances: Iterable[bool] = ()) -> list[bytes]:
    """What a ledger is told of a SKU's history; where `balances` says so, a snapshot comes next."""
    rows: dict[str, StockRow] = {}
    values: list[bytes] = []
    snapshots = iter(balances)

    def tell(change: StockChange) -> None:
        _, key, value, *_ = movement_message(change, ERP, "2026-11-21T06:00:00.000000Z")
        assert (key, value is None) == (b"S", False)
        values.append(value or b"")

    for warehouse, level in history:
        before = rows.pop(warehouse, None)
        if not level.deleted:
            rows[warehouse] = StockRow(*level[:6])
        after = rows.get(warehouse)
        operation = Operation.DELETE if after is None else Operation.UPDATE
        tell(StockChange(operation, "S", warehouse, before, after, level.committed_us))
        if after is not None and next(snapshots, False):
            tell(StockChange(Operation.READ, "S", warehouse, None, after, level.committed_us))
    return values


def whole(values: Iterable[bytes], truncated: tuple[int, ...] = ()) -> dict[Key, Fields]:
    reader = subscriber(ChannelKind.MOVEMENT, truncated, 0)
    for value in values:
        reader.take(Record(0, b"S", value, 0))
    return dict(reader.snapshot().messages)


class File:
    """The auditor's file, with any number of lives."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "told.db"
        self._next = 0

    def take(self, values: Iterable[bytes], since_us: int | None = None) -> None:
        with ToldStore(self._path) as store:
            found = [told(ERP.kind, b"S", value) for value in values]
            self._next += len(found)
            places = {0: Place(self._next, since_us)}
            store.take(ERP.topic, [each for each in found if each is not None], places)

    def said(self) -> dict[str, dict[str, tuple[str, int]]]:
        with ToldStore(self._path) as store:
            return store.of(["S"]).get("S", {})

    def accounts(self) -> dict[Key, Fields]:
        return {
            Key("S", code or None): message_fields(ERP.kind, *last)
            for code, last in self.said().get(ERP.topic, {}).items()
        }


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def unless_it_adds_up(accounts: dict[Key, Fields]) -> dict[Key, Fields]:
    """Where the sums are right, nobody asks for a gap."""
    return {
        key: {
            name: value
            for name, value in fields.items()
            if name != "gap"
            or (fields["on_hand"], fields["reserved"])
            != (fields["sum_on_hand"], fields["sum_reserved"])
        }
        for key, fields in accounts.items()
    }


@given(histories(), st.lists(st.booleans(), max_size=6), st.data())
def test_a_file_with_restarts_says_what_the_whole_topic_says(history, balances, data):
    values = messages(history, balances)
    lost = data.draw(st.sets(st.integers(0, len(values) - 1), max_size=2))
    values = [value for n, value in enumerate(values) if n not in lost]
    truncated = data.draw(st.booleans())
    with TemporaryDirectory() as directory:
        file = File(Path(directory))
        done = 0
        delivered: list[bytes] = []
        crashes = data.draw(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), max_size=4))
        for more, back in [*crashes, (len(values), 0)]:
            # A worker gets so far, crashes, and its successor begins so much earlier.
            some = values[done : done + more]
            file.take(some, 0 if truncated else None)
            delivered += some
            done = max(0, min(done + more, len(values)) - back)
        expected = whole(delivered, (0,) if truncated else ())
        assert file.accounts() == unless_it_adds_up(expected)
        if not lost and not truncated:
            assert file.accounts() == unless_it_adds_up(whole(values)), "redelivery changes nothing"


def is_suspect(history: list[Change], file: File) -> bool:
    """Whether what the file has of the ledger makes the SKU suspect; all else is as it must be."""
    sound = world(history, "S", (ERP,))
    stock = replace(sound.stock, policies=(ERP,))
    return [*suspects(stock, ["S"], [Seen(True, [])], {"S": file.said()}, {})] == ["S"]


@given(histories())
def test_what_a_worker_tells_adds_up(history: list[Change]):
    with TemporaryDirectory() as directory:
        file = File(Path(directory))
        file.take(messages(history))
        assert not is_suspect(history, file)


@pytest.fixture
def reinserted(level: Callable[..., Change]) -> list[Change]:
    """A row of 65 units that was deleted, and inserted again with 64."""
    return [level(65, 2), level(0, 3, deleted=True), level(64, 6)]


@pytest.fixture
def level() -> Callable[..., Change]:
    def made(on_hand: int, version: int, *, deleted: bool = False) -> Change:
        return ("ams", StockLevel(on_hand, 0, 0, 0, None, version, 1, deleted))

    return made


def balance_of(value: bytes) -> bytes:
    fields = {"kind": "balance", "delta_on_hand": None, "delta_reserved": None}
    return orjson.dumps({**orjson.loads(value), **fields})


def test_a_delete_that_nobody_captured_is_suspect_until_a_balance(file, reinserted):
    first, _, again = messages(reinserted)
    file.take([balance_of(first), again])
    assert file.accounts()[ROW] == {
        "on_hand": 64, "reserved": 0, "version": 6, "sum_on_hand": 129, "sum_reserved": 0,
    }  # fmt: skip
    assert is_suspect(reinserted, file)
    file.take([balance_of(again)])
    assert not is_suspect(reinserted, file)
    file.take([again, balance_of(again), again])
    assert not is_suspect(reinserted, file)


def test_a_balance_that_comes_again_alone_undoes_nothing(file, level):
    first, second = messages([level(65, 2), level(60, 4)])
    file.take([balance_of(first), second, balance_of(first)])
    assert file.accounts()[ROW]["sum_on_hand"] == 60


def test_of_a_row_that_misses_nothing_no_more_is_kept_than_how_it_is(file, reinserted, level):
    file.take(messages([*reinserted, level(60, 8)]))
    with ToldStore(file._path) as store:
        kept = store._connection.execute("SELECT said, version, rest FROM told").fetchall()
    assert kept == [("60 0", 8, None)]


def test_a_deleted_row_does_not_come_back_by_redelivery(file, level):
    history = [level(65, 2), level(60, 4), level(0, 5, deleted=True)]
    values = messages(history)
    file.take(values)
    assert file.accounts() == {}
    file.take(values[1:2])
    assert file.accounts()[ROW]["sum_on_hand"] == 0
    file.take(values[2:])
    assert file.accounts() == {}
    with ToldStore(file._path) as store:
        assert store.skus("", 10) == []


def test_movements_that_come_late_fill_a_gap(file, level):
    values = messages([level(10, 2), level(7, 4), level(5, 6), level(9, 8)])
    file.take([values[0], values[2]])
    assert file.accounts()[ROW]["sum_on_hand"] == 8
    assert file.accounts()[ROW]["gap"]
    file.take([values[1], values[2], values[2], values[3]])
    assert file.accounts()[ROW]["sum_on_hand"] == 9


def test_accounts_whose_messages_expired_unread_begin_anew(file, level):
    history = [level(10, 2), level(7, 4), level(5, 6)]
    values = messages(history)
    file.take(values[:1])
    with ToldStore(file._path) as store:
        store.forget_accounts(ERP.topic, 1)
        assert store.skus("", 10) == ["S"], "another partition's stay"
        store.forget_accounts(ERP.topic, 0)
    assert file.accounts() == {}
    file.take(values[2:], since_us=7)
    assert not is_suspect(history, file)


def test_what_is_kept_of_a_ledger_that_is_not_told_of_its_own_is_bounded(file, level):
    values = messages([level(n, 2 * n) for n in range(1, 400)])
    file.take(values[::2])
    assert file.accounts()[ROW]["gap"]
    with ToldStore(file._path) as store:
        (size,) = store._connection.execute("SELECT length(rest) FROM told").fetchone()
    assert size < 400
    before = file.accounts()
    file.take(values[300::2])
    assert file.accounts() == before, "what was counted counts once"
