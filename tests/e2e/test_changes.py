"""Commit SQL, read Redis and the channels: every kind of change."""

import pytest

from inventory.topics import events_topic
from projections.reader import AvailabilityReader
from stockwire_client.names import channel_topic
from tests.conftest import BEFORE_CAPTURE
from tests.polling import eventually

pytestmark = pytest.mark.e2e

INSERT = "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, %s)"


def available(reader: AvailabilityReader, sku: str, channel: str = "web") -> int | None:
    found = reader.get(sku, channel)
    return None if found is None else found.available


def test_rows_from_before_the_capture_arrive_and_then_their_changes(database, reader, tail):
    web = tail(channel_topic("web"))
    skus = {sku for sku, _, _ in BEFORE_CAPTURE}
    on_hand = {s: sum(n for sku, _, n in BEFORE_CAPTURE if sku == s) for s in skus}
    reserved = dict(
        database.execute(
            "SELECT sku, sum(reserved)::int FROM inventory.stock WHERE sku = ANY(%s) GROUP BY sku",
            [list(skus)],
        ).fetchall()
    )
    for sku in skus:
        eventually(lambda sku=sku: available(reader, sku) == on_hand[sku] - reserved[sku])
    database.execute("UPDATE inventory.stock SET reserved = reserved + 1 WHERE sku = 'BEFORE-1'")
    left = on_hand["BEFORE-1"] - reserved["BEFORE-1"] - 2
    told = web.until(lambda m: m.key == b"BEFORE-1" and m.json["available"] == left).json
    assert web.of("BEFORE-1")[0]["previous_available"] == left + 2
    assert told["version"] == reader.get("BEFORE-1", "web").version


def test_an_insert_reaches_redis_and_all_four_channels(database, reader, tail, sku):
    tails = {name: tail(channel_topic(name)) for name in ("web", "app", "wms", "erp")}
    database.execute(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand, reserved, safety_stock, reason,"
        " reference, caused_by) VALUES (%s, 'T-1', 12, 2, 1, 'receipt', 'PO-1', 'alice')",
        [sku],
    )
    for channel in ("web", "app"):
        told = tails[channel].until(lambda m: m.key == sku.encode())
        assert told.json["available"] == 9
        assert told.json["channel"] == channel
        assert told.headers["ce_subject"] == sku.encode()
        assert told.headers["ce_type"] == b"stockwire.availability.v1"
    level = tails["wms"].until(lambda m: m.key == f"{sku}|T-1".encode()).json
    assert (level["on_hand"], level["reserved"], level["available"]) == (12, 2, 9)
    movement = tails["erp"].until(lambda m: m.key == sku.encode()).json
    assert movement["kind"] == "movement"
    assert (movement["delta_on_hand"], movement["delta_reserved"]) == (12, 2)
    assert (movement["reason"], movement["reference"], movement["caused_by"]) == (
        "receipt",
        "PO-1",
        "alice",
    )
    found = reader.get(sku, "web")
    assert (found.available, found.status) == (9, "in_stock")
    assert found.version == tails["web"].of(sku)[-1]["version"]


def test_a_multi_row_transaction_arrives_whole(database, reader, tail, sku):
    erp = tail(channel_topic("erp"))
    names = [f"{sku}-{n}" for n in range(200)]
    with database.transaction():
        database.cursor().executemany(INSERT, [(name, "T-1", 10) for name in names])
        database.cursor().executemany(INSERT, [(name, "T-2", 5) for name in names])
        database.execute(
            "UPDATE inventory.stock SET reserved = 3 WHERE sku = ANY(%s) AND warehouse = 'T-1'",
            [names],
        )
    eventually(lambda: [available(reader, name) for name in names] == [12] * len(names))
    erp.until(lambda _: len({m.key for m in erp.seen if m.json["delta_reserved"] == 3}) == 200)
    movements = [m.json for m in erp.seen if m.key.startswith(sku.encode())]
    assert len(movements) == 600, "movements are never conflated"
    assert len({m["committed_at"] for m in movements}) == 1, "one commit, one commit time"


def test_update_delete_and_insert_again(database, reader, tail, sku):
    web, wms, erp = (tail(channel_topic(name)) for name in ("web", "wms", "erp"))
    database.execute(INSERT, [sku, "T-1", 4])
    eventually(lambda: available(reader, sku) == 4)
    database.execute("UPDATE inventory.stock SET on_hand = 9 WHERE sku = %s", [sku])
    eventually(lambda: available(reader, sku) == 9)
    database.execute("DELETE FROM inventory.stock WHERE sku = %s", [sku])
    eventually(lambda: reader.get_all(sku) == {})
    web.until(lambda m: m.key == sku.encode() and m.value is None)
    wms.until(lambda m: m.key == f"{sku}|T-1".encode() and m.value is None)
    database.execute(INSERT, [sku, "T-1", 2])
    eventually(lambda: available(reader, sku) == 2)
    web.until(lambda m: m.json is not None and m.json["available"] == 2)
    erp.until(lambda m: m.key == sku.encode() and m.json["on_hand"] == 2)
    deltas = [m["delta_on_hand"] for m in erp.of(sku)]
    assert deltas == [4, 5, -9, 2]
    versions = [m["version"] for m in erp.of(sku)]
    assert versions == sorted(set(versions))
    clocks = [m["version"] for m in web.of(sku) if m is not None]
    assert clocks == sorted(set(clocks))


def test_a_primary_key_change_moves_the_stock(database, reader, tail, sku):
    wms = tail(channel_topic("wms"))
    database.execute(INSERT, [sku, "T-1", 6])
    eventually(lambda: available(reader, sku) == 6)
    other = f"{sku}-renamed"
    database.execute("UPDATE inventory.stock SET sku = %s WHERE sku = %s", [other, sku])
    eventually(lambda: available(reader, other) == 6)
    eventually(lambda: available(reader, sku) is None)
    wms.until(lambda m: m.key == f"{other}|T-1".encode())
    assert wms.of(sku)[-1] is None or wms.until(
        lambda m: m.key == f"{sku}|T-1".encode() and not m.value
    )


@pytest.mark.parametrize(
    "awkward",
    [
        "with space",
        "colon:colon",
        "{braces}",
        "}{",
        "100%",
        'quote"quote',
        "back\\slash",
        "tab\there",
        "Ünïcödé-✓-漢字",
        "pipe|pipe",
    ],
)
def test_awkward_skus_work(database, reader, tail, sku, awkward):
    web = tail(channel_topic("web"))
    name = (f"{awkward}/{sku}").ljust(200, "x")[:200]
    database.execute(INSERT, [name, "T-1", 3])
    eventually(lambda: available(reader, name) == 3)
    assert web.until(lambda m: m.key == name.encode()).json["sku"] == name


def test_the_reader_waits_for_its_own_write(database, reader, sku):
    (version,) = database.execute(INSERT + " RETURNING version", [sku, "T-1", 3]).fetchone()
    assert reader.wait_for(sku, "T-1", version, timeout=30)
    assert available(reader, sku) == 3
    assert not reader.wait_for(sku, "T-1", version + 2, timeout=0.05)


def test_an_outbox_event_leaves_with_its_transaction(database, tail, sku):
    events = tail(events_topic("order"))
    insert = (
        "INSERT INTO inventory.outbox (aggregatetype, aggregateid, type, payload, traceparent)"
        " VALUES ('order', %s, 'order.placed', convert_to(%s, 'UTF8'), '00-trace-01')"
    )
    with database.transaction(force_rollback=True):
        database.execute(insert, [f"{sku}-rolled-back", '{"n": 0}'])
    database.execute(insert, [sku, '{"lines": [{"sku": "A", "quantity": 2}]}'])
    told = events.until(lambda m: sku.encode() in (m.key or b""))
    assert told.json == {"lines": [{"sku": "A", "quantity": 2}]}
    assert told.headers["eventType"] == b"order.placed"
    assert told.headers["traceparent"] == b"00-trace-01"
    assert not any(b"rolled-back" in (m.key or b"") for m in events.seen)
