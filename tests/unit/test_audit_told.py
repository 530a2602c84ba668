"""What channels were told last: texts, and the file that keeps them."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.continuous.texts import UNREADABLE, Told, message_fields, told
from audit.continuous.told import Place, ToldStore
from inventory.errors import AuditError
from inventory.policy import ChannelKind

WEB = {
    "sku": "S", "channel": "web", "available": 3, "status": "low_stock", "backorderable": 0,
    "order_limit": 3, "version": 9, "restock_at": None, "previous_available": 4,
}  # fmt: skip
LEVEL = {
    "sku": "S|x", "warehouse": "W", "on_hand": 5, "reserved": 1, "safety_stock": 0,
    "incoming": 2, "available": 4, "version": 6,
}  # fmt: skip
MOVEMENT = {
    "kind": "movement", "sku": "S", "warehouse": "W", "delta_on_hand": 2, "delta_reserved": 1,
    "on_hand": 5, "reserved": 1, "version": 6, "previous_version": 4, "movement_id": "S|W|6",
}  # fmt: skip

KINDS = {
    ChannelKind.AVAILABILITY: ("S", WEB),
    ChannelKind.LEVEL: ("S|x|W", LEVEL),
    ChannelKind.MOVEMENT: ("S", MOVEMENT),
}


@pytest.mark.parametrize("kind", ChannelKind)
def test_a_message_comes_back_as_it_was_said(kind: ChannelKind):
    key, message = KINDS[kind]
    found = told(kind, key.encode(), orjson.dumps(message))
    assert found is not None
    fields = message_fields(kind, found.said or "", found.version)
    assert fields.items() >= {n: v for n, v in message.items() if n in fields}.items()
    assert (found.sku, found.warehouse) == (message["sku"], message.get("warehouse", ""))


_values = st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False), st.text(), st.integers())


@given(st.sampled_from(list(ChannelKind)), st.data())
def test_two_messages_have_one_text_only_if_they_say_the_same(kind: ChannelKind, data):
    key, message = KINDS[kind]
    name = data.draw(st.sampled_from(sorted(message)))
    value = data.draw(_values)
    sound = told(kind, key.encode(), orjson.dumps(message))
    try:
        text = orjson.dumps({**message, name: value})
    except TypeError:
        return  # an integer that is too long for JSON
    other = told(kind, key.encode(), text)
    assert sound is not None
    assert other is not None
    if (other.said, other.version) == (sound.said, sound.version):
        fields = message_fields(kind, sound.said or "", sound.version)
        assert name not in fields or (value == fields[name] and type(value) is type(fields[name]))


@pytest.mark.parametrize("value", [b"", b"[]", b"null", b"{}", b"\xff", b'"x"'])
@pytest.mark.parametrize("kind", ChannelKind)
def test_what_no_worker_has_written_is_kept_as_such(kind: ChannelKind, value: bytes):
    found = told(kind, KINDS[kind][0].encode(), value)
    assert found is not None
    assert found.said == UNREADABLE
    assert "unreadable" in message_fields(kind, found.said, 0)


def test_true_is_no_number():
    found = told(ChannelKind.AVAILABILITY, b"S", orjson.dumps({**WEB, "available": True}))
    assert found == Told("S", "", UNREADABLE, 0)


def test_tombstones_and_the_end_of_a_back_fill():
    assert told(ChannelKind.LEVEL, b"S|x|W", None) == Told("S|x", "W", None, 0)
    assert told(ChannelKind.AVAILABILITY, b"S", None) == Told("S", "", None, 0)
    for kind in ChannelKind:
        assert told(kind, b":snapshot/0", None) is None


def test_the_last_message_holds_and_a_restart_goes_on(tmp_path: Path):
    path = tmp_path / "auditor" / "told.db"
    with ToldStore(path) as store:
        store.take(
            "web", [Told("A", "", "1", 2), Told("B", "", "2", 4), Told("A", "", "3", 6)],
            {0: Place(3), 1: Place(0, 77)},
        )  # fmt: skip
        store.take("web", [Told("B", "", None, 0)], {0: Place(4)})
        store.take("wms", [Told("A", "W1", "5", 2), Told("C", "W1", "6", 2)], {0: Place(2)})
    with ToldStore(path) as store:
        assert store.places("web") == {0: Place(4), 1: Place(0, 77)}
        assert store.places("app") == {}
        assert store.of(["A", "B"]) == {"A": {"web": {"": ("3", 6)}, "wms": {"W1": ("5", 2)}}}
        assert store.skus("", 10) == ["A", "C"]
        assert store.skus("A", 10) == ["C"]
        store.forget("wms")
        assert (store.skus("", 10), store.places("wms")) == (["A"], {})


def test_a_file_that_cannot_be_used_is_a_sentence(tmp_path: Path):
    path = tmp_path / "told.db"
    path.write_bytes(b"this is no database, and long enough to be taken for one" * 100)
    with pytest.raises(AuditError, match="can be deleted"):
        ToldStore(path)
