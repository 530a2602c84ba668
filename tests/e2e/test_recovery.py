"""A slot that is lost and a database that was set back, each made good with one command."""

import json
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg import sql
from redis import Redis

from audit.auditor import Auditor
from bench.load import seed_catalogue
from cli.bringup import prepare
from connectors.apply import CONNECTOR
from connectors.client import STOPPED, ConnectClient
from guard import ghosts
from guard.checks.connect import GAPS
from guard.decide import Check
from guard.guardian import Guardian
from guard.names import SLOT
from guard.steps import drop_slot, stop_connector
from health import Health
from inventory.names import stock_key
from inventory.topics import STOCK, events_topic
from stockwire_client.names import availability_key
from tests.conftest import without_auditor
from tests.e2e.command import doctor, mend_of, stockwire
from tests.e2e.selling import SKUS, WAREHOUSES, selling
from tests.e2e.whole_topic import read_topic
from tests.polling import eventually

pytestmark = pytest.mark.e2e

INSERT = "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'WH-1', %s)"

#: What a backup of this database would hold.
TABLES = ("channel_sku", "channel", "stock", "stock_deletion", "outbox")


@pytest.fixture
def admin(stack, settings):
    """A connection as the owner; whatever a test does to capture, it goes on after it."""
    seed_catalogue(settings.conninfo(), SKUS, WAREHOUSES)
    owner = settings.conninfo(settings.postgres_admin_user)
    with psycopg.connect(owner, autocommit=True) as connection:
        yield connection
        # The slot may be gone and the line stopped: the tests that follow need both.
        with ConnectClient(str(settings.connect_url)) as client:
            status = client.status(CONNECTOR)
        if status is None or not status.running or slot(connection) is None:
            recover(stack, "database")


@pytest.fixture
def connect(settings):
    with ConnectClient(str(settings.connect_url)) as client:
        yield client


@pytest.fixture
def gap(settings, database, sku):
    """Rows and events that are committed while nobody captures them."""
    database.execute(INSERT, [f"{sku}-updated", 5])
    database.execute(INSERT, [f"{sku}-deleted", 5])
    database.execute(
        "INSERT INTO inventory.channel_sku (channel, sku, buffer) VALUES ('web', %s, 1)",
        [f"{sku}-updated"],
    )
    with Redis.from_url(str(settings.redis_url)) as redis:
        eventually(lambda: redis.exists(availability_key(f"{sku}-deleted")))
        eventually(lambda: redis.hexists(stock_key(f"{sku}-updated"), ":override:web"))
    sent = []

    def change():
        sent.append(event(database, sku))
        database.execute(INSERT, [f"{sku}-inserted", 7])
        database.execute(
            "UPDATE inventory.stock SET on_hand = 3 WHERE sku = %s", [f"{sku}-updated"]
        )
        database.execute("DELETE FROM inventory.stock WHERE sku = %s", [f"{sku}-deleted"])
        database.execute("DELETE FROM inventory.channel_sku WHERE sku = %s", [f"{sku}-updated"])
        sent.append(event(database, sku))

    def arrived():
        ids = {m.headers["id"].decode() for m in read_topic(settings.kafka_bootstrap, ORDERS)}
        assert set(sent) <= ids, f"{len(set(sent) - ids)} events are missing"
        with Redis.from_url(str(settings.redis_url), decode_responses=True) as redis:
            # Policies follow by themselves, and within a second.
            web = [redis.hget(availability_key(f"{sku}-{name}"), "web") for name in NAMES]
        assert web == ["7", "3", None]
        return True

    yield SimpleNamespace(change=change, arrived=lambda: eventually(arrived))
    database.execute("DELETE FROM inventory.stock WHERE starts_with(sku, %s)", [sku])


ORDERS = events_topic("order")
NAMES = ("inserted", "updated", "deleted")


def event(database, sku):
    row = database.execute(
        "INSERT INTO inventory.outbox (aggregatetype, aggregateid, type, payload)"
        " VALUES ('order', %s, 'Tested', '{}') RETURNING id",
        [sku],
    ).fetchone()
    return str(row[0])


def recover(stack, what):
    """The one command, as a person runs it."""
    done = stockwire(stack, "recover", what, "--yes")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    print(done.stdout)


def told_of(settings, sku):
    """Every event of a SKU's rows, in order; other tests have left keys that are no JSON."""
    name = json.dumps(sku).encode()
    return [m for m in read_topic(settings.kafka_bootstrap, STOCK) if name in (m.key or b"")]


def assert_no_drift(settings):
    url = str(settings.redis_url)
    with Auditor.open(settings.conninfo(), url, settings.kafka_bootstrap) as auditor:
        report = auditor.audit_until_settled(60)
    assert report.drift == 0, "\n".join(map(str, report.examples()))


@contextmanager
def guarded(settings):
    """A guardian that looks while inside."""
    health, end = Health("guardian", 60), threading.Event()
    with Guardian(settings, health, time.monotonic) as guardian:
        thread = threading.Thread(target=guardian.run, args=(end,))
        thread.start()
        try:
            yield health
        finally:
            end.set()
            thread.join(60)


def slot(admin):
    return admin.execute(
        "SELECT active, active_pid, wal_status FROM pg_replication_slots WHERE slot_name = %s",
        [SLOT],
    ).fetchone()


def take_slot_away(admin):
    """End its walsender and drop it before Debezium is back."""

    def dropped():
        try:
            admin.execute(
                "SELECT pg_terminate_backend(active_pid, 1000), pg_drop_replication_slot(slot_name)"
                " FROM pg_replication_slots WHERE slot_name = %s",
                [SLOT],
            )
        except psycopg.errors.ObjectInUse:
            return False
        return slot(admin) is None

    eventually(dropped, interval=0)


def lose_wal(admin):
    """Let Postgres give up the slot at a checkpoint, as it does at the limit of its WAL."""
    try:
        admin.execute("ALTER SYSTEM SET idle_replication_slot_timeout = '1s'")
        admin.execute("SELECT pg_reload_conf()")

        def lost():
            admin.execute("CHECKPOINT")
            return slot(admin)[2] == "lost"

        eventually(lost, interval=0.5)
    finally:
        admin.execute("ALTER SYSTEM RESET idle_replication_slot_timeout")
        admin.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("how", ["dropped while stopped", "dropped under way", "lost"])
def test_a_lost_slot_is_recovered_without_a_gap(stack, settings, admin, connect, gap, how):
    with selling(settings, 61):
        if how == "dropped under way":
            take_slot_away(admin)
            # Debezium may come back by itself, with a slot that has a gap before it.
            stop_connector(connect, print)
        else:
            stop_connector(connect, print)
            if how == "lost":
                eventually(lambda: not slot(admin)[0])
                lose_wal(admin)
            else:
                drop_slot(admin, print)
        gap.change()
        recover(stack, "slot")
        gap.arrived()
    assert_no_drift(settings)


@pytest.mark.parametrize("then", ["gone", "made again by hand"])
def test_a_slot_dropped_under_the_running_connector_is_noticed_and_recovered(
    stack, settings, admin, connect, gap, then
):
    with guarded(settings) as health, selling(settings, 64):
        eventually(lambda: health.ready().ok)
        take_slot_away(admin)
        gap.change()
        if then == "made again by hand":
            admin.execute(
                "SELECT pg_create_logical_replication_slot(%s, 'pgoutput', false, false, true)",
                [SLOT],
            )
        # Nobody does anything: Debezium comes back by itself, and must not go on over the gap.
        failure = eventually(lambda: connect.status(CONNECTOR).failure)
        assert any(text in failure for text in GAPS), failure
        found = eventually(lambda: health.ready().reasons.get(Check.CONNECTOR))
        assert "stockwire recover slot" in found
        code, findings = doctor(stack)
        assert code == 2
        assert "stockwire recover slot" in mend_of(findings, "connector")
        if then == "gone":
            assert "stockwire recover slot" in health.ready().reasons[Check.SLOT]
            assert "stockwire recover slot" in mend_of(findings, "slot")
        # It is no failure that a restart mends, so none is tried.
        assert health.ready().facts["connector_restarts"] == 0
        recover(stack, "slot")
        gap.arrived()
        eventually(lambda: health.ready().ok)
    assert_no_drift(settings)


@pytest.fixture
def no_auditor(stack):
    """It buries ghosts as well."""
    with without_auditor(stack):
        yield


@pytest.mark.usefixtures("no_auditor")
def test_a_row_that_comes_back_while_it_is_buried_is_the_last_word_of_the_topic(
    settings, admin, database, sku, monkeypatch
):
    database.execute(INSERT, [sku, 5])
    first = eventually(lambda: told_of(settings, sku))[-1]
    database.execute("DELETE FROM inventory.stock WHERE sku = %s", [sku])
    eventually(lambda: told_of(settings, sku)[-1].json["op"] == "d")
    # A row that Kafka knows and Postgres does not.
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    producer.produce(STOCK, first.value, first.key, first.partition)
    assert producer.flush(30) == 0
    send = ghosts._send

    def send_late(bootstrap, topic, buried):
        database.execute(INSERT, [sku, 9])
        eventually(lambda: told_of(settings, sku)[-1].json["after"]["on_hand"] == 9)
        return send(bootstrap, topic, buried)

    monkeypatch.setattr(ghosts, "_send", send_late)
    assert ghosts.bury_ghosts(settings.kafka_bootstrap, admin, print) == 1
    ops = [message.json["op"] for message in told_of(settings, sku)]
    assert ops == ["c", "d", "c", "c", "d", "r"]
    # What compaction leaves is the row, with its own version.
    (version,) = database.execute(
        "SELECT version FROM inventory.stock WHERE sku = %s", [sku]
    ).fetchone()
    assert told_of(settings, sku)[-1].json["after"]["version"] == version
    assert_no_drift(settings)
    database.execute("DELETE FROM inventory.stock WHERE sku = %s", [sku])


def test_recovery_of_a_slot_goes_on_after_an_interruption(stack, settings, admin, connect, gap):
    stop_connector(connect, print)
    drop_slot(admin, print)
    gap.change()
    # Interrupted after the offsets were forgotten, and again in the middle of the snapshot.
    connect.delete_offsets(CONNECTOR)
    connect.resume(CONNECTOR)
    eventually(lambda: slot(admin) is not None)
    recover(stack, "slot")
    gap.arrived()
    assert_no_drift(settings)


def test_a_database_set_back_stops_the_line_until_it_is_recovered(
    stack, settings, admin, connect, database, gap, sku
):
    with backed_up(admin):
        with selling(settings, 62):
            gap.change()
            database.execute(INSERT, [f"{sku}-forgotten", 9])
            with Redis.from_url(str(settings.redis_url)) as redis:
                eventually(lambda: redis.exists(availability_key(f"{sku}-forgotten")))
        with guarded(settings) as health:
            eventually(lambda: health.ready().ok)
            stop_connector(connect, print)
            restore(admin)
            drop_slot(admin, print)
            started = time.monotonic()
            connect.resume(CONNECTOR)
            eventually(lambda: Check.VERSIONS in health.ready().reasons)
            eventually(lambda: connect.status(CONNECTOR).state == STOPPED)
            assert time.monotonic() - started < 15
            assert "stockwire recover database" in health.ready().reasons[Check.VERSIONS]
            # The evidence goes, and the line stays stopped; also when somebody starts it.
            admin.execute(
                "SELECT setval('inventory.stock_version', last_value + 10000000)"
                " FROM inventory.stock_version"
            )
            connect.resume(CONNECTOR)
            eventually(lambda: connect.status(CONNECTOR).state == STOPPED)
            assert Check.VERSIONS in health.ready().reasons
            said = []
            prepare(settings, said.append)
            assert any("the connector stays stopped" in line for line in said)
            eventually(lambda: connect.status(CONNECTOR).state == STOPPED)
            with selling(settings, 63):
                recover(stack, "database")
            eventually(lambda: health.ready().ok)
    assert_no_drift(settings)
    with Redis.from_url(str(settings.redis_url)) as redis:
        assert not redis.exists(availability_key(f"{sku}-forgotten"))
        assert redis.hget(availability_key(f"{sku}-updated"), "web") == b"4"


def about(name, statement, *schemas):
    """A statement about the relation of this name in one or two schemas."""
    return sql.SQL(statement).format(*(sql.Identifier(schema, name) for schema in schemas))


@contextmanager
def backed_up(admin):
    """Copies of the tables and of the sequences as they are now."""
    admin.execute("CREATE SCHEMA backup")
    try:
        for table in TABLES:
            admin.execute(about(table, "CREATE TABLE {} AS TABLE {}", "backup", "inventory"))
        for sequence in ("stock_version", "policy_version"):
            copy = "CREATE TABLE {} AS SELECT last_value FROM {}"
            admin.execute(about(sequence, copy, "backup", "inventory"))
        yield
    finally:
        admin.execute("DROP SCHEMA backup CASCADE")


def restore(admin):
    """As after a restore: rows and sequences of then, and no trigger has seen it."""
    with admin.transaction():
        admin.execute("SET LOCAL session_replication_role = replica")
        for table in TABLES:
            admin.execute(about(table, "DELETE FROM {}", "inventory"))
            admin.execute(about(table, "INSERT INTO {} SELECT * FROM {}", "inventory", "backup"))
        for sequence in ("stock_version", "policy_version"):
            admin.execute(
                about(sequence, "SELECT setval(%s, last_value) FROM {}", "backup"),
                [f"inventory.{sequence}"],
            )
