"""The auditor on real servers: it sees what was broken by hand, and only that."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import orjson
import psycopg
import pytest
import redis
from confluent_kafka import Producer
from typer.testing import CliRunner

from audit.auditor import Auditor
from audit.postgres import read_policies, read_stock
from audit.report import AuditReport
from audit.topics import TopicReader
from cli.main import app
from inventory.errors import AuditError, Outage, StockwireError
from inventory.names import stock_key
from inventory.policy import ChannelKind, ChannelOverride
from inventory.settings import Settings
from projections.codec import decode_override, encode_override
from projections.reader import AvailabilityReader
from stockwire_client.names import availability_key
from tests.conftest import TEST_ENVIRONMENT
from tests.polling import DEADLINE, eventually

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("nobody_heals")]


@pytest.fixture
def auditor(stack: object, settings: Settings) -> Iterator[Auditor]:
    with Auditor.open(
        settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap
    ) as opened:
        yield opened


@pytest.fixture
def database(stack: object, settings: Settings) -> Iterator[psycopg.Connection]:
    with psycopg.connect(settings.conninfo(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def store(stack: object, settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        yield client


@pytest.fixture
def publish(stack: object, settings: Settings) -> Callable[[str, str, bytes | None], None]:
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap, "partitioner": "murmur2_random"}
    )

    def send(topic: str, key: str, value: bytes | None) -> None:
        producer.produce(topic, value, key.encode())
        assert producer.flush(30) == 0

    return send


@pytest.fixture
def sku(database: psycopg.Connection, store: redis.Redis) -> Iterator[str]:
    """A SKU with two rows that is everywhere; whatever the test breaks of it is mended."""
    name = f"AUDIT {{{uuid4().hex[:8]}}}|%7B"
    database.cursor().executemany(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand, incoming, incoming_at)"
        " VALUES (%s, %s, %s, 5, now() + interval '1 day')",
        [(name, "T-1", 10), (name, "T-2", 5)],
    )
    yield name
    store.delete(stock_key(name), availability_key(name))
    database.execute("UPDATE inventory.stock SET on_hand = 3 WHERE sku = %s", [name])
    deleted = database.execute(
        "DELETE FROM inventory.stock WHERE sku = %s RETURNING warehouse, version + 1", [name]
    ).fetchall()
    for warehouse, version in deleted:
        assert AvailabilityReader(store).wait_for(name, warehouse, version, DEADLINE)


# Other tests share the stack and may leave things behind: only the test's own SKU is judged.
def of(report: AuditReport, sku: str) -> set[tuple[str, str | None]]:
    """Where the SKU drifts."""
    return {
        (found.place, found.warehouse)
        for place in report.places
        for found in place.examples
        if found.sku == sku
    }


def test_a_change_in_flight_is_waited_for(auditor: Auditor, database: psycopg.Connection, sku: str):
    database.execute("UPDATE inventory.stock SET reserved = 2 WHERE sku = %s", [sku])
    eventually(lambda: not of(auditor.audit(), sku))
    report = auditor.audit_until_settled(0)
    places = {place.place for place in report.places}
    assert places >= {"redis stock", "redis web", "topic stock.web.v1", "topic stock.wms.v1"}
    count = database.execute("SELECT count(*), count(DISTINCT sku) FROM inventory.stock").fetchone()
    assert (report.rows + report.rejected, report.skus) == count


def test_what_is_broken_in_redis_is_seen(auditor: Auditor, store: redis.Redis, sku: str):
    eventually(lambda: not of(auditor.audit(), sku))
    store.hset(availability_key(sku), "web", 999)
    assert of(auditor.audit_until_settled(0.3), sku) == {("redis web", None)}
    store.delete(availability_key(sku))
    assert of(auditor.audit(), sku) == {("redis web", None), ("redis app", None)}
    store.set(availability_key(sku), "not a hash")
    assert of(auditor.audit(), sku) == {("redis web", None), ("redis app", None)}
    store.hdel(stock_key(sku), "T-1")
    assert ("redis stock", "T-1") in of(auditor.audit(), sku)
    store.hset(stock_key(sku), "T-1", "garbage")
    assert ("redis stock", "T-1") in of(auditor.audit(), sku)


def test_a_row_that_only_redis_has_is_seen(auditor: Auditor, store: redis.Redis, sku: str):
    eventually(lambda: not of(auditor.audit(), sku))
    ghost = f"{sku} ghost"
    try:
        store.hset(stock_key(ghost), "T-1", "2 1 0 0 0 - 1 0")
        assert of(auditor.audit(), ghost) == {("redis stock", "T-1")}
    finally:
        store.delete(stock_key(ghost))


def test_an_override_that_redis_has_otherwise_is_seen(
    auditor: Auditor, database: psycopg.Connection, store: redis.Redis, sku: str
):
    database.execute(
        "INSERT INTO inventory.channel_sku (channel, sku, ring_fence, max_per_order)"
        " VALUES ('app', %s, 4, 3)",
        [sku],
    )
    eventually(lambda: not of(auditor.audit(), sku))
    found = AvailabilityReader(store).get(sku, "app")
    assert found is not None
    assert (found.available, found.order_limit) == (15, 3)
    right = store.hget(stock_key(sku), ":override:app")
    assert isinstance(right, bytes)
    wrong = ChannelOverride(decode_override(right).version, 0, ring_fence=5, max_per_order=3)
    store.hset(stock_key(sku), ":override:app", encode_override(wrong))
    assert of(auditor.audit_until_settled(0.3), sku) == {("redis overrides", "app")}
    store.hset(stock_key(sku), ":override:app", right)
    store.hset(availability_key(sku), "app:order_limit", 4)
    assert of(auditor.audit(), sku) == {("redis app", None)}
    database.execute("DELETE FROM inventory.channel_sku WHERE sku = %s", [sku])
    eventually(lambda: not of(auditor.audit(), sku))


def test_a_status_is_right_between_threshold_and_hysteresis_and_stale_above(
    auditor: Auditor, database: psycopg.Connection, store: redis.Redis, sku: str
):
    # Waited for in between: of two changes in one batch, only the last is told.
    for on_hand in (2, 3):
        database.execute("UPDATE inventory.stock SET on_hand = %s WHERE sku = %s", [on_hand, sku])
        eventually(lambda: not of(auditor.audit(), sku))
    found = AvailabilityReader(store).get(sku, "web")
    assert found is not None
    assert (found.available, found.status) == (6, "low_stock"), "it was 4 a moment before"
    database.execute("UPDATE inventory.stock SET on_hand = 4 WHERE sku = %s", [sku])
    eventually(lambda: not of(auditor.audit(), sku))
    store.hset(availability_key(sku), "web:status", "low_stock")
    assert of(auditor.audit_until_settled(0.3), sku) == {("redis web", None)}


def test_what_is_broken_in_a_topic_is_seen(
    auditor: Auditor, publish: Callable[[str, str, bytes | None], None], sku: str
):
    eventually(lambda: not of(auditor.audit(), sku))
    publish("stock.web.v1", sku, None)
    publish("stock.app.v1", sku, b"{")
    publish("stock.wms.v1", f"{sku}|T-1", None)
    movement = {
        "kind": "movement",
        "sku": sku,
        "warehouse": "T-2",
        "delta_on_hand": -1,
        "delta_reserved": 0,
        "on_hand": 4,
        "reserved": 0,
        "version": 10**12,
        "movement_id": f"{sku}|T-2|{10**12}",
    }
    publish("stock.erp.v1", sku, orjson.dumps(movement))
    expected = {
        ("topic stock.web.v1", None),
        ("topic stock.app.v1", None),
        ("topic stock.wms.v1", "T-1"),
        ("topic stock.erp.v1", "T-2"),
    }
    assert of(auditor.audit(), sku) == expected
    # The opposite movement, so that the account is zero at the end.
    undo = movement | {"delta_on_hand": 1, "on_hand": 5, "movement_id": "undo"}
    publish("stock.erp.v1", sku, orjson.dumps(undo))


def test_rows_that_are_dead_lettered_by_rule_are_counted_apart(
    auditor: Auditor, database: psycopg.Connection, settings: Settings
):
    long = "x" * 201
    before = read_stock(settings.conninfo()).rejected
    database.execute(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'T-1', 1)", [long]
    )
    try:
        report = auditor.audit()
        assert (report.rejected, of(report, long)) == (before + 1, set())
    finally:
        database.execute("DELETE FROM inventory.stock WHERE sku = %s", [long])


def test_postgres_is_read_as_of_one_moment(
    settings: Settings, database: psycopg.Connection, sku: str
):
    levels = read_stock(settings.conninfo()).levels[sku]
    rows = database.execute(
        "SELECT warehouse, on_hand, version FROM inventory.stock WHERE sku = %s", [sku]
    ).fetchall()
    assert {(code, level.on_hand, level.version) for code, level in levels.items()} == {*rows}
    assert {policy.name for policy in read_policies(settings.conninfo())} >= {"web", "app", "wms"}


def test_a_missing_topic_is_a_sentence(stack: object, settings: Settings):
    with (
        TopicReader(settings.kafka_bootstrap, "no.such.topic", ChannelKind.LEVEL) as reader,
        pytest.raises(AuditError, match=r"no topic no\.such\.topic"),
    ):
        reader.snapshot()


def test_a_postgres_that_is_away_is_an_outage():
    with pytest.raises(Outage, match="Postgres cannot be reached"):
        read_stock("postgresql://nobody@127.0.0.1:1/none")


@pytest.fixture
def stockwire(stack: object, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    for name, value in TEST_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments)
        known = isinstance(result.exception, StockwireError)
        return result.exit_code, str(result.exception) if known else result.output

    return run


def test_the_commands(
    stockwire: Callable[..., tuple[int, str]], store: redis.Redis, auditor: Auditor, sku: str
):
    eventually(lambda: not of(auditor.audit(), sku))
    code, text = stockwire("audit", "--once", "--json", "--patience", "0")
    assert code == (1 if orjson.loads(text)["drift"] else 0)
    code, text = stockwire("get", sku, "--json")
    found = orjson.loads(text)
    assert found["channels"]["web"]["available"] == 15
    assert found["warehouses"]["T-2"]["on_hand"] == 5
    code, text = stockwire("get", sku)
    assert code == 0
    assert "T-1" in text
    code, text = stockwire("tail", "web", "--from-start", "--sku", sku, "--limit", "1", "--json")
    assert orjson.loads(text)["value"]["sku"] == sku
    store.hset(availability_key(sku), "web", 999)
    code, text = stockwire("audit", "--once", "--patience", "0")
    assert code == 1
    # Where nothing else limits an order, it may take what is available.
    expected, found = "available 15, order_limit 15", "available 999, order_limit 999"
    assert f"redis web: {sku}: expected {expected}, found {found}" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("get", "NO-SUCH-SKU"), "There is no SKU 'NO-SUCH-SKU' in Redis"),
        (("tail", "nowhere"), "There is no channel 'nowhere'; the channels are"),
    ],
)
def test_what_is_not_there_is_a_sentence(
    stockwire: Callable[..., tuple[int, str]], arguments: tuple[str, ...], sentence: str
):
    code, text = stockwire(*arguments)
    assert code == 1
    assert sentence in text
