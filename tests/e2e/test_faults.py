"""What goes wrong on the way, and what must hold all the same."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from audit.auditor import Auditor
from bench.load import run as run_load
from bench.load import seed_catalogue
from bench.workload import WorkloadPlan
from inventory.groups import group_id
from inventory.topics import CHANNEL_SKU, DEAD_LETTER, STOCK
from stockwire_client.names import channel_topic
from tests.conftest import ROOT, TEST_ENVIRONMENT
from tests.polling import eventually
from tests.recorded import altered

pytestmark = pytest.mark.e2e

INSERT = "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, %s)"


@pytest.fixture
def workers(stack):
    """Both workers run before and after the test, whatever it did to them."""
    stack.start_workers()
    yield stack
    for part in ("redis", "kafka", "connect"):
        if not next(p for p in stack.status() if p.part == part).answers:
            stack.start_part(part)
    stack.start_workers()


def members(settings, agent):
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    group = group_id(agent)
    return admin.describe_consumer_groups([group])[group].result(timeout=30).members


def lag(settings, agent):
    """Records of the stock topic that the agent's group has not committed."""
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_bootstrap, "group.id": group_id(agent)}
    )
    try:
        parts = [TopicPartition(STOCK, number) for number in range(settings.partitions)]
        return sum(
            consumer.get_watermark_offsets(part, timeout=30)[1] - max(part.offset, 0)
            for part in consumer.committed(parts, timeout=30)
        )
    finally:
        consumer.close()


def threaded(call):
    """Run `call` in a thread; calling the result waits for it and gives what it returned."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return lambda: future.result(timeout=300)


def python_module(*arguments):
    """Run a module against the test stack, beside the supervised workers."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **TEST_ENVIRONMENT},
        stderr=subprocess.DEVNULL,
    )


def start_load(settings, seed):
    """Sell for 15 s; the result waits for the end and gives the report."""
    plan = WorkloadPlan(seed=seed, skus=300, warehouses=3)
    seed_catalogue(settings.conninfo(), skus=plan.skus, warehouses=plan.warehouses)
    return threaded(
        lambda: run_load(settings.conninfo(), plan, changes_per_second=400, duration=15)
    )


def assert_no_drift(settings):
    places = (settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap)
    with Auditor.open(*places) as auditor:
        report = auditor.audit_until_settled(patience=90)
    assert report.rows > 0
    assert report.drift == 0, report


@pytest.mark.parametrize(("how", "code"), [("kill", -signal.SIGKILL), ("raise", 1)])
def test_a_crash_between_redis_and_publish_is_made_good(
    workers, settings, database, reader, tail, sku, how, code
):
    web = tail(channel_topic("web"))
    workers.stop_part("availability")
    crashing = python_module("tests.e2e.crashing_worker", how, sku)
    try:
        database.execute(INSERT, [sku, "T-1", 5])
        assert crashing.wait(timeout=60) == code
    finally:
        crashing.kill()
    assert reader.get(sku, "web").available == 5, "it must have died after the Redis write"
    written = reader.get(sku, "web").version
    workers.start_part("availability")
    told = web.until(lambda m: m.key == sku.encode()).json
    assert (told["available"], told["version"]) == (5, written)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"not json at all", b"Invalid JSON"),
        (altered("stock_update", after__on_hand="many").value, b"after.on_hand"),
        (altered("stock_update", after__sku="").value, b"sku has 0 characters"),
    ],
)
def test_a_malformed_message_is_set_aside_and_its_neighbours_go_through(
    workers, settings, database, reader, tail, sku, value, complaint
):
    dead = tail(DEAD_LETTER)
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    database.execute(INSERT, [f"{sku}-before", "T-1", 1])
    for partition in range(settings.partitions):
        producer.produce(STOCK, value, sku.encode(), partition, headers=[("kept", b"as it was")])
    assert producer.flush(30) == 0
    database.execute(INSERT, [f"{sku}-after", "T-1", 2])
    for agent in ("stockwire-availability", "stockwire-ledger"):
        told = dead.until(
            lambda m, agent=agent: (
                m.key == sku.encode()
                and m.headers["__connect.errors.connector.name"] == agent.encode()
            )
        )
        assert told.value == value
        assert told.headers["kept"] == b"as it was"
        assert told.headers["__connect.errors.topic"] == STOCK.encode()
        assert told.headers["__connect.errors.partition"].isdigit()
        assert told.headers["__connect.errors.offset"].isdigit()
        assert told.headers["__connect.errors.exception.class.name"].endswith(b"InvalidEvent")
        assert complaint in told.headers["__connect.errors.exception.message"]
    for name, quantity in ((f"{sku}-before", 1), (f"{sku}-after", 2)):
        eventually(lambda n=name, q=quantity: (f := reader.get(n, "web")) and f.available == q)


@pytest.mark.parametrize("length", [201, 5000])
def test_a_sku_that_is_too_long_is_set_aside(workers, database, reader, tail, sku, length):
    dead = tail(DEAD_LETTER)
    name = sku.ljust(length, "x")
    database.execute(INSERT, [name, "T-1", 1])
    told = dead.until(lambda m: name.encode() in (m.value or b""))
    assert b"sku has" in told.headers["__connect.errors.exception.message"]
    assert reader.get_all(name) == {}
    database.execute("DELETE FROM inventory.stock WHERE sku = %s", [name])


def test_workers_that_stop_and_start_while_changes_flow_lose_nothing(workers, settings):
    actions = [
        lambda: workers.stop_part("availability"),
        lambda: workers.stop_part("ledger"),
        lambda: workers.start_part("availability"),
        lambda: workers.kill("availability"),
        lambda: workers.start_part("ledger"),
        lambda: workers.kill("ledger"),
    ]
    load = start_load(settings, seed=7)
    for action in actions:
        action()
    assert load().changes > 1000
    assert_no_drift(settings)


def test_a_second_worker_joins_and_leaves_while_changes_flow(workers, settings):
    load = start_load(settings, seed=8)
    second = python_module("stream", "availability")
    try:
        eventually(lambda: len(members(settings, "availability")) == 2)
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=60) == 0
    finally:
        second.kill()
    eventually(lambda: len(members(settings, "availability")) == 1)
    assert load().changes > 1000
    assert_no_drift(settings)


def test_a_sku_has_one_worker_for_its_stock_and_its_overrides(workers, settings, database):
    """Two would overtake each other on the channels' topics."""
    second = python_module("stream", "availability")

    def divided():
        held = [
            {
                topic: {tp.partition for tp in m.assignment.topic_partitions if tp.topic == topic}
                for topic in (STOCK, CHANNEL_SKU)
            }
            for m in members(settings, "availability")
        ]
        return len(held) == 2 and all(each[STOCK] for each in held) and held

    try:
        held = eventually(divided)
        assert all(each[STOCK] == each[CHANNEL_SKU] for each in held)
        assert set().union(*(each[STOCK] for each in held)) == {*range(settings.partitions)}
        # Both have to tell their part of the SKUs.
        with database.transaction():
            database.execute("UPDATE inventory.channel SET buffer = buffer + 1 WHERE name = 'app'")
        assert_no_drift(settings)
    finally:
        database.execute("UPDATE inventory.channel SET buffer = 0 WHERE name = 'app'")
        second.terminate()
        assert second.wait(timeout=60) == 0
    eventually(lambda: len(members(settings, "availability")) == 1)
    assert_no_drift(settings)


def test_a_worker_that_is_told_to_stop_commits_and_leaves_the_group(
    workers, settings, database, reader, sku
):
    database.execute(INSERT, [sku, "T-1", 5])
    eventually(lambda: reader.get(sku, "web"))
    workers.stop_part("availability")
    assert members(settings, "availability") == [], "it must leave, not time out"
    assert lag(settings, "availability") == 0


def test_without_redis_the_warehouse_is_told_and_the_shop_catches_up(
    workers, database, reader, tail, sku
):
    web, wms, dead = (tail(t) for t in (channel_topic("web"), channel_topic("wms"), DEAD_LETTER))
    database.execute(INSERT, [sku, "T-1", 5])
    web.until(lambda m: m.key == sku.encode())
    workers.stop_part("redis")
    database.execute("UPDATE inventory.stock SET on_hand = 4 WHERE sku = %s", [sku])
    wms.until(lambda m: m.key == f"{sku}|T-1".encode() and m.json["on_hand"] == 4)
    workers.start_part("redis")
    told = web.until(lambda m: m.key == sku.encode() and m.json["available"] == 4)
    assert reader.get(sku, "web").version == told.json["version"]
    assert not dead.seen, "an outage is no reason for a dead letter"
    with pytest.raises(AssertionError, match="no such message"):
        dead.until(lambda _: True, timeout=1)


def test_every_server_listens_on_loopback_only(stack):
    for part in stack.status():
        assert part.pid, part
        process = psutil.Process(part.pid)
        for each in (process, *process.children(recursive=True)):
            for connection in each.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1"), part
    for worker, pid in stack.worker_pids().items():
        listening = [
            connection.laddr.port
            for connection in psutil.Process(pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        [part] = [part for part in stack.status() if part.part == worker]
        assert listening == [part.port], "a worker answers for its health, and listens no further"
