"""The running auditor finds what was broken by hand, and has it mended; haste is no drift."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest
import redis
from confluent_kafka import Producer

from audit.continuous.patrol import AUDIT_KEY
from bench.load import seed_catalogue
from compose.embedded.stack import Stack
from inventory.names import level_key, stock_key
from inventory.projection import SkuState
from inventory.settings import Settings
from inventory.stock import StockLevel
from projections.reader import AvailabilityReader
from projections.states import read_states
from stockwire_client.names import availability_key, channel_topic
from tests.e2e.selling import SKUS, WAREHOUSES, assert_no_drift, selling
from tests.e2e.whole_topic import read_topic
from tests.polling import eventually

pytestmark = pytest.mark.e2e

#: Two passes, the time that changes may be in flight, and a snapshot.
HEALED = 90.0


class Running:
    """The stack's own auditor, and what it says."""

    def __init__(self, store: redis.Redis) -> None:
        self._store = store

    def figures(self) -> dict[str, Any]:
        found = self._store.get(AUDIT_KEY)
        return orjson.loads(found) if isinstance(found, bytes) else {}

    def passes(self, more: int) -> None:
        """Wait for so many whole passes from now on."""
        before = self.figures()["passes"]
        eventually(lambda: self.figures()["passes"] > before + more, HEALED)


@pytest.fixture(scope="module")
def store(stack: object, settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        yield client


@pytest.fixture(scope="module")
def auditor(stack: Stack, settings: Settings, store: redis.Redis) -> Running:
    """An auditor that has just started, and so counts from zero."""
    stack.stop_part("auditor")
    store.delete(AUDIT_KEY)
    stack.start_part("auditor")
    running = Running(store)
    eventually(lambda: running.figures().get("passes", 0) > 0, HEALED)
    return running


@pytest.fixture(scope="module")
def publish(stack: object, settings: Settings) -> Callable[..., None]:
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap, "partitioner": "murmur2_random"}
    )

    def send(channel: str, key: str, value: bytes | None) -> None:
        producer.produce(channel_topic(channel), value, key.encode())
        assert producer.flush(30) == 0

    return send


@pytest.fixture
def sku(database: psycopg.Connection, reader: AvailabilityReader, auditor: Running) -> str:
    """A SKU with two rows that is everywhere; its name is as hard to quote as names are."""
    name = f"HEAL '{uuid4().hex[:8]}' {{%s}}|\\%7B ?"
    rows = database.execute(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand)"
        " VALUES (%(sku)s, 'T-1', 10), (%(sku)s, 'T-2', 5) RETURNING warehouse, version",
        {"sku": name},
    ).fetchall()
    for warehouse, version in rows:
        assert reader.wait_for(name, warehouse, version, 60)
    auditor.passes(1)
    return name


def units_of(value: bytes | None) -> int | None:
    try:
        return orjson.loads(value or b"{}").get("on_hand")
    except ValueError:
        return None


def shown(reader: AvailabilityReader, sku: str, channel: str = "web") -> int | None:
    found = reader.get(sku, channel)
    return None if found is None else found.available


def test_a_key_that_was_deleted_comes_back(auditor, store, reader, sku):
    healed = auditor.figures()["healed"]
    store.delete(stock_key(sku), availability_key(sku))
    eventually(lambda: shown(reader, sku) == 15, HEALED)
    eventually(lambda: auditor.figures()["healed"] > healed, HEALED)
    eventually(lambda: store.hexists(stock_key(sku), "T-2"), HEALED)


def test_what_readers_see_is_mended(auditor, store, reader, sku):
    store.hset(availability_key(sku), "web", 999)
    eventually(lambda: shown(reader, sku) == 15, HEALED)
    store.hset(availability_key(sku), "app:status", "sold by elves")
    eventually(lambda: reader.get(sku, "app").status == "in_stock", HEALED)


def test_a_row_that_only_redis_has_goes(auditor, store, reader, sku):
    ghosts = auditor.figures()["ghosts"]
    ghost = f"GHOST {uuid4().hex[:8]}"
    store.hset(stock_key(ghost), mapping={"T-1": "8 7 0 0 0 - 1795235627326925 0", ":revision": 1})
    store.hset(stock_key(sku), "T-9", "8 100 0 0 0 - 1795235627326925 0")
    store.hset(
        availability_key(f"{ghost} shown"),
        mapping={"web": 7, "web:status": "in_stock", "web:version": 1, "as_of": 1},
    )
    eventually(lambda: store.hget(stock_key(ghost), "T-1").endswith(b" 1"), HEALED)
    eventually(lambda: store.hget(stock_key(sku), "T-9").endswith(b" 1"), HEALED)
    eventually(lambda: shown(reader, f"{ghost} shown") is None, HEALED)
    eventually(lambda: auditor.figures()["ghosts"] >= ghosts + 3, HEALED)
    assert shown(reader, sku) == 15


#: Of no row that Postgres will ever have, and more than a Debezium event may carry.
FALSE = 2**60


def test_a_row_in_a_version_that_postgres_never_had_is_mended(
    auditor, store, reader, database, sku
):
    healed = auditor.figures()["healed"]
    row = store.hget(stock_key(sku), "T-1")
    falsified = row.replace(row.split()[0], str(FALSE).encode()).replace(b" 10 ", b" 99 ")
    store.hset(stock_key(sku), "T-1", falsified)
    eventually(lambda: store.hget(stock_key(sku), "T-1").split()[:2] == row.split()[:2], HEALED)
    eventually(lambda: auditor.figures()["healed"] > healed, HEALED)
    assert shown(reader, sku) == 15
    (version,) = database.execute(
        "UPDATE inventory.stock SET on_hand = 3 WHERE (sku, warehouse) = (%(sku)s, 'T-1')"
        " RETURNING version",
        {"sku": sku},
    ).fetchone()
    assert reader.wait_for(sku, "T-1", version, 60)
    assert shown(reader, sku) == 8


def test_a_block_holds_while_an_override_in_a_false_version_is_mended(
    auditor, store, reader, database, sku
):
    database.execute(
        "INSERT INTO inventory.channel_sku (channel, sku, blocked) VALUES ('web', %(sku)s, true)",
        {"sku": sku},
    )
    eventually(lambda: shown(reader, sku) == 0, HEALED)
    right = store.hget(stock_key(sku), ":override:web").split()
    # Falsified in its version alone: nobody may sell it meanwhile.
    store.hset(stock_key(sku), ":override:web", b" ".join([b"%d" % FALSE, *right[1:]]))

    def mended():
        assert shown(reader, sku) == 0
        return store.hget(stock_key(sku), ":override:web").split()[0] == right[0]

    eventually(mended, HEALED)


GARBAGE = {
    "T-2": "99999999999 x",
    "T-9": "garbage",
    "": "8 100 0 0 0 - 5 0",
    ":odd": "1",
    ":override:web": "garbage",
    ":published": "[]",
    ":revision": "garbage",
    ":partition": "77",
}


def test_garbage_in_the_working_state_ends_no_worker_and_is_mended(
    auditor, store, reader, database, sku
):
    store.hset(stock_key(sku), mapping=GARBAGE)
    (version,) = database.execute(
        "UPDATE inventory.stock SET on_hand = 3 WHERE (sku, warehouse) = (%(sku)s, 'T-1')"
        " RETURNING version",
        {"sku": sku},
    ).fetchone()
    assert reader.wait_for(sku, "T-1", version, 60), "the worker goes on"
    assert shown(reader, sku) == 0, "what blocks may be unreadable"
    eventually(lambda: shown(reader, sku) == 8, HEALED)

    def readable():
        (state,) = read_states(store, [sku])
        return not state.unreadable and "T-9" not in live(state) and len(live(state)) == 2

    eventually(readable, HEALED)
    assert shown(reader, sku) == 8


def live(state: SkuState) -> dict[str, StockLevel]:
    return {code: level for code, level in state.levels.items() if not level.deleted}


def test_a_key_of_another_type_ends_no_worker_and_is_mended(auditor, store, reader, sku):
    store.set(stock_key(sku), "garbage")
    eventually(lambda: store.type(stock_key(sku)) == b"hash", HEALED)
    eventually(lambda: shown(reader, sku) == 15, HEALED)
    assert len(live(next(read_states(store, [sku])))) == 2


def test_a_ghost_in_a_version_that_postgres_never_had_hides_nothing(
    auditor, store, reader, database, settings
):
    ghost = f"GHOST {uuid4().hex[:8]}"
    store.hset(
        stock_key(ghost),
        mapping={"T-1": f"{FALSE} 7 0 0 0 - 1795235627326925 0", ":revision": 1},
    )
    eventually(lambda: store.hget(stock_key(ghost), "T-1").endswith(b" 1"), HEALED)
    (version,) = database.execute(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%(sku)s, 'T-1', 4)"
        " RETURNING version",
        {"sku": ghost},
    ).fetchone()
    assert reader.wait_for(ghost, "T-1", version, 60)
    assert shown(reader, ghost) == 4
    stops = database.execute("SELECT count(*) FROM inventory.line_stop").fetchone()
    assert stops == (0,), "the guardian does not take Postgres for one that was set back"
    assert_no_drift(settings)


def test_what_readers_find_of_a_channel_that_is_gone_goes(auditor, store, reader, sku):
    store.hset(availability_key(sku), mapping={"shop": 7, "shop:status": "in_stock"})
    eventually(lambda: not store.hexists(availability_key(sku), "shop"), HEALED)
    assert shown(reader, sku) == 15


def test_what_a_channel_was_told_wrongly_is_told_anew(auditor, publish, tail, sku):
    web, wms = tail(channel_topic("web")), tail(channel_topic("wms"))
    wrong = {
        "sku": sku, "channel": "web", "available": 99, "status": "in_stock",
        "previous_available": 15, "backorderable": 0, "order_limit": 99,
        "version": 1, "committed_at": "2026-01-01T00:00:00.000000Z", "restock_at": None,
    }  # fmt: skip
    publish("web", sku, orjson.dumps(wrong))
    publish("wms", level_key(sku, "T-1"), None)
    publish("wms", level_key(sku, "T-2"), b"not JSON")

    def told_right():
        web.drain()
        wms.drain()
        assert web.of(sku)[-1]["available"] == 15
        last = {told.key: told.value for told in wms.seen}
        for code, units in (("T-1", 10), ("T-2", 5)):
            assert units_of(last[level_key(sku, code).encode()]) == units
        return True

    eventually(told_right, HEALED)


def test_a_sum_that_a_ledger_has_wrong_is_told_anew_as_a_balance(
    auditor, publish, tail, settings, sku
):
    """As after a delete that nobody has captured: the last message is right, the sum is not."""
    erp = tail(channel_topic("erp"))
    booked = read_topic(settings.kafka_bootstrap, channel_topic("erp"))
    of_sku = [kept.json for kept in booked if kept.key == sku.encode()]
    (right,) = [told for told in of_sku if told["warehouse"] == "T-1"]
    assert (right["kind"], right["delta_on_hand"]) == ("movement", 10)
    healed = auditor.figures()["healed"]
    no_deltas = {"kind": "balance", "delta_on_hand": None, "delta_reserved": None}
    publish("erp", sku, orjson.dumps({**right, **no_deltas, "on_hand": 75}))
    publish("erp", sku, orjson.dumps(right))

    def balance():
        erp.drain()
        return next((m for m in erp.of(sku) if m["kind"] == "balance" and m["on_hand"] == 10), None)

    told = eventually(balance, HEALED)
    assert (told["warehouse"], told["version"]) == ("T-1", right["version"])
    eventually(lambda: auditor.figures()["healed"] > healed, HEALED)
    assert_no_drift(settings)


def test_nothing_in_flight_is_called_drift(auditor, settings):
    seed_catalogue(settings.conninfo(), SKUS, WAREHOUSES)
    with selling(settings, seed=77):
        before = auditor.figures()
        auditor.passes(3)
        after = auditor.figures()
    assert after["drifted"] == before["drifted"]
    assert_no_drift(settings)
