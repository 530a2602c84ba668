"""Records become changes, or poison; what a later version may add is neither."""

import contextlib
import subprocess
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockwire_client import ALERT, AVAILABILITY, LEVEL, MOVEMENT, InvalidMessage, MovementKind
from stockwire_client.messages import Record
from tests.client_fakes import availability, movement, typed

COMMITTED = "2026-11-21T06:19:24.255483Z"


def record(value, key=b"A", headers=(), offset=7):
    return Record("stock.web.v1", 3, offset, key, value, list(headers), 1000)


def level(sku="A", warehouse="W1", **fields):
    message = {
        "sku": sku,
        "warehouse": warehouse,
        "on_hand": 5,
        "reserved": 1,
        "available": 4,
        "safety_stock": 0,
        "incoming": 0,
        "version": 12,
        "reason": "order",
        "reference": None,
        "committed_at": COMMITTED,
    }
    return orjson.dumps({**message, **fields})


def alert(**fields):
    message = {
        "alert_id": "A|web|7",
        "kind": "low_stock",
        "sku": "A",
        "channel": "web",
        "available": 3,
        "previous_available": 9,
        "status": "low_stock",
        "previous_status": "in_stock",
        "version": 7,
        "committed_at": COMMITTED,
    }
    return orjson.dumps({**message, **fields})


def test_availability():
    headers = [*typed(), ("stockwire_snapshot", b"true"), ("traceparent", b"00-1-2-01")]
    change = AVAILABILITY.read(record(availability(version=9), headers=headers))
    assert (change.sku, change.key, change.warehouse, change.version) == ("A", "A", None, 9)
    assert (change.snapshot, change.echo, change.traceparent) == (True, False, "00-1-2-01")
    assert (change.topic, change.partition, change.offset) == ("stock.web.v1", 3, 7)
    assert change.value is not None
    assert change.value["available"] == 5


def test_level():
    headers = [*typed(LEVEL), ("stockwire_echo", b"true")]
    change = LEVEL.read(record(level("A|B"), b"A|B|W1", headers))
    assert (change.sku, change.warehouse, change.version, change.echo) == ("A|B", "W1", 12, True)


def test_movement_and_alert():
    moved = MOVEMENT.read(record(movement()))
    assert moved.value is not None
    assert moved.value["kind"] is MovementKind.MOVEMENT
    assert moved.warehouse == "W1"
    assert ALERT.read(record(alert())).version == 7


def test_a_tombstone_has_the_version_of_its_id():
    gone = LEVEL.read(record(None, b"A|B|W1", [*typed(LEVEL), ("ce_id", b"A|B|W1|13")]))
    assert (gone.value, gone.sku, gone.warehouse, gone.version) == (None, "A|B", "W1", 13)
    assert AVAILABILITY.read(record(None)).version is None


@pytest.mark.parametrize(
    "version", [b"A", b"A|x", b"A|-1", b"A|" + b"9" * 5000, "A|\u0663".encode()]
)
def test_an_id_without_a_version_says_none(version):
    assert AVAILABILITY.read(record(None, headers=[("ce_id", version)])).version is None


def test_values_and_fields_of_a_later_version_are_tolerated():
    value = availability(status="pre_order", promised_by=["x"])
    change = AVAILABILITY.read(record(value, headers=[*typed(), ("later", b"\xff")]))
    assert change.value is not None
    assert change.value["status"] == "pre_order"
    assert ALERT.read(record(alert(kind="overstock", status="x"))).value["kind"] == "overstock"


@pytest.mark.parametrize(("available", "limit"), [(5, 5), (0, 0)])
def test_messages_from_before_a_field_mean_what_they_meant(available, limit):
    old = orjson.loads(availability(available=available))
    del old["backorderable"], old["order_limit"]
    value = AVAILABILITY.read(record(orjson.dumps(old))).value
    assert (value["backorderable"], value["order_limit"]) == (0, limit)


@pytest.mark.parametrize(
    ("kind", "value", "key", "headers", "reason"),
    [
        (AVAILABILITY, b"not json", b"A", (), "Invalid JSON"),
        (AVAILABILITY, b"[]", b"A", (), "object"),
        (AVAILABILITY, b"\xff", b"A", (), "JSON"),
        (AVAILABILITY, b"{}", b"A", (), "sku: Field required"),
        (AVAILABILITY, availability(version="1"), b"A", (), "version: .*integer"),
        (AVAILABILITY, availability(available=None), b"A", (), "available: .*integer"),
        (AVAILABILITY, availability(), b"A", typed(LEVEL), "type is 'stockwire.level.v1'"),
        (AVAILABILITY, availability(), b"A", [("ce_type", b"stockwire.availability.v2")], "type"),
        (AVAILABILITY, availability(), b"B", (), "not that of its value"),
        (AVAILABILITY, availability(), None, (), "no key"),
        (AVAILABILITY, availability(), b"", (), "no key"),
        (AVAILABILITY, availability(), b"\xff", (), "key is not UTF-8"),
        (AVAILABILITY, availability(), b"A", [("ce_type", b"\xff")], "header ce_type is not UTF-8"),
        (LEVEL, level(), b"A", (), "not sku|warehouse"),
        (LEVEL, level(), b"A|W2", (), "not that of its value"),
        (LEVEL, None, b"A", (), "not sku|warehouse"),
        (MOVEMENT, movement(kind="transfer"), b"A", (), "kind: .*'movement' or 'balance'"),
        (MOVEMENT, None, b"A", (), "no value"),
        (ALERT, None, b"A", (), "no value"),
    ],
)
def test_poison_says_where_it_is_and_what_is_wrong(kind, value, key, headers, reason):
    with pytest.raises(InvalidMessage, match=reason) as caught:
        kind.read(record(value, key, headers))
    poison = caught.value
    assert (poison.topic, poison.partition, poison.offset) == ("stock.web.v1", 3, 7)
    assert (poison.key, poison.value, poison.headers) == (key, value, tuple(headers))
    assert "Message 7 of stock.web.v1, partition 3" in str(poison)


@given(
    value=st.none() | st.binary(),
    key=st.none() | st.binary(),
    headers=st.lists(st.tuples(st.sampled_from(["ce_id", "ce_type", "x"]), st.binary())),
    kind=st.sampled_from([AVAILABILITY, LEVEL, MOVEMENT, ALERT]),
)
def test_nothing_but_poison_comes_of_any_bytes(value, key, headers, kind):
    with contextlib.suppress(InvalidMessage):
        kind.read(record(value, key, headers))


def test_the_contract_loads_no_client_of_a_server():
    script = (
        "import sys, stockwire_client.contract, stockwire_client.names, inventory.messages\n"
        "print([m for m in ('redis', 'confluent_kafka', 'psycopg') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_everything_that_is_announced_is_there():
    import stockwire_client

    for name in stockwire_client.__all__:
        assert getattr(stockwire_client, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stockwire_client.nothing
