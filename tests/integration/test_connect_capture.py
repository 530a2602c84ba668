"""What the connector writes for committed rows, seen on the real stack."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.apply import Outcome, apply
from connectors.client import ConnectClient
from connectors.topics import ensure_topics
from inventory import topics
from inventory.errors import ConnectorError
from inventory.settings import Settings
from inventory.topics import TopicSpec
from tests.polling import eventually

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("stack")]

NAME = "inventory"


class Message(NamedTuple):
    topic: str
    partition: int
    key: Any
    value: Any
    headers: dict[str, str | None]


class Tail:
    """What arrives on some topics from now on."""

    def __init__(self, settings: Settings, *names: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": settings.kafka_bootstrap, "group.id": f"tail-{uuid4()}"}
        )
        here = []
        for name in names:
            for partition in self._consumer.list_topics(name, 10).topics[name].partitions:
                place = TopicPartition(name, partition)
                place.offset = eventually(lambda place=place: self._end(place))[0]
                here.append(place)
        self._consumer.assign(here)
        self.seen: list[Message] = []

    def _end(self, place: TopicPartition) -> tuple[int]:
        try:
            return (self._consumer.get_watermark_offsets(place, timeout=10)[1],)
        except KafkaException as exc:  # a leader that is not ready yet, right after creation
            raise AssertionError(exc) from exc

    def close(self) -> None:
        self._consumer.close()

    def of(self, **key: str) -> list[Message]:
        """The messages so far whose key has these fields."""
        for record in self._consumer.consume(500, timeout=0.1):
            assert record.error() is None, record.error()
            headers = {name: value and value.decode() for name, value in record.headers() or []}
            value = record.value()
            self.seen.append(
                Message(
                    record.topic(),
                    record.partition(),
                    json.loads(record.key()),
                    None if value is None else json.loads(value),
                    headers,
                )
            )
        return [m for m in self.seen if isinstance(m.key, dict) and key.items() <= m.key.items()]

    def event(self, aggregate_id: str) -> Message | None:
        """The outbox event of an aggregate, once it is there."""
        self.of()
        return next((m for m in self.seen if m.key == aggregate_id), None)


@pytest.fixture
def db(settings: Settings) -> Iterator[psycopg.Connection]:
    admin = settings.conninfo(settings.postgres_admin_user)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO inventory.warehouse (code, name) VALUES ('C-1', '1'), ('C-2', '2') "
            "ON CONFLICT DO NOTHING"
        )
        yield connection


@pytest.fixture
def sku(db: psycopg.Connection) -> Iterator[str]:
    name = f'capture {{"ü"}}:{uuid4()}'
    yield name
    db.execute("DELETE FROM inventory.stock WHERE starts_with(sku, %s)", [name])


@contextmanager
def tailing(settings: Settings, *names: str) -> Iterator[Tail]:
    tail = Tail(settings, *names)
    try:
        yield tail
    finally:
        tail.close()


@pytest.fixture
def connect(settings: Settings) -> Iterator[ConnectClient]:
    with ConnectClient(str(settings.connect_url)) as client:
        yield client


def stock(db: psycopg.Connection, sku: str, warehouse: str = "C-1") -> None:
    db.execute(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, 1)", [sku, warehouse]
    )


def event(db: psycopg.Connection, aggregate: str, aggregate_id: str, payload: str) -> None:
    db.execute(
        "INSERT INTO inventory.outbox (aggregatetype, aggregateid, type, payload, traceparent) "
        "VALUES (%s, %s, 'Tested', convert_to(%s, 'UTF8'), '00-trace')",
        [aggregate, aggregate_id, payload],
    )


def test_a_skus_changes_are_in_order_on_one_partition(
    settings: Settings, db: psycopg.Connection, sku: str
) -> None:
    with tailing(settings, topics.STOCK) as tail:
        stock(db, sku, "C-1")
        stock(db, sku, "C-2")
        db.execute("UPDATE inventory.stock SET on_hand = 5 WHERE sku = %s", [sku])
        db.execute("DELETE FROM inventory.stock WHERE sku = %s AND warehouse = 'C-1'", [sku])
        db.execute("DELETE FROM inventory.stock WHERE sku = %s", [sku])
        found = eventually(lambda: len(tail.of(sku=sku)) >= 6 and tail.of(sku=sku))
    assert [m.value["op"] for m in found] == ["c", "c", "u", "u", "d", "d"]
    assert len({m.partition for m in found}) == 1
    # The delete carries the row: its version says what the delete is newer than.
    assert found[-1].value["before"]["version"] == found[3].value["after"]["version"]


def test_a_key_change_is_a_delete_and_an_insert(
    settings: Settings, db: psycopg.Connection, sku: str
) -> None:
    with tailing(settings, topics.STOCK) as tail:
        stock(db, sku)
        db.execute("UPDATE inventory.stock SET sku = %s WHERE sku = %s", [f"{sku}+", sku])
        new = eventually(lambda: tail.of(sku=f"{sku}+"))
        old = tail.of(sku=sku)
    assert [m.value["op"] for m in old] == ["c", "d"]
    assert [m.value["op"] for m in new] == ["c"]


def test_an_outbox_row_becomes_an_event_and_its_removal_none(
    settings: Settings, db: psycopg.Connection
) -> None:
    order = f"ORD-{uuid4()}"
    # What schema inference would alter, or fail on: mixed lists, nulls, numbers above 64 bits.
    payload = {"order_id": order, "lines": [{"a": 1}, {"b": "x"}, 7, None], "n": 2**70, "e": []}
    with tailing(settings, topics.events_topic("order")) as tail:
        with db.transaction():
            event(db, "order", order, json.dumps(payload))
            db.execute("DELETE FROM inventory.outbox WHERE aggregateid = %s", [order])
        event(db, "order", f"{order}+", "{}")
        eventually(lambda: tail.event(f"{order}+"))
    found = [m for m in tail.seen if m.key == order]
    assert [m.value for m in found] == [payload]
    assert found[0].headers["eventType"] == "Tested"
    assert found[0].headers["traceparent"] == "00-trace"
    assert found[0].headers["id"]


def test_an_event_without_a_topic_is_dead_lettered_and_stock_goes_on(
    settings: Settings, db: psycopg.Connection, sku: str
) -> None:
    with tailing(settings, topics.DEAD_LETTER, topics.STOCK) as tail:
        event(db, "not\na topic", sku, '{"kept": true}')
        stock(db, sku)
        eventually(lambda: tail.of(sku=sku))
        dead = eventually(lambda: tail.event(sku))
    assert dead.value == {"kept": True}
    assert dead.headers["__connect.errors.topic"] == "stockwire.inventory.outbox"
    assert "aggregatetype" in (dead.headers["__connect.errors.exception.message"] or "")


def test_a_signal_sends_chosen_rows_again(
    settings: Settings, db: psycopg.Connection, sku: str
) -> None:
    with tailing(settings, topics.STOCK) as tail:
        stock(db, sku)
        inserted = eventually(lambda: tail.of(sku=sku))[0]
        chosen = {
            "data-collection": "inventory.stock",
            "filter": f"sku = '{sku}'",
        }
        signal = {
            "type": "incremental",
            "data-collections": ["inventory.stock"],
            "additional-conditions": [chosen],
        }
        db.execute(
            "INSERT INTO inventory.debezium_signal (id, type, data) "
            "VALUES (%s, 'execute-snapshot', %s)",
            [str(uuid4()), json.dumps(signal)],
        )
        read = eventually(lambda: next((m for m in tail.of(sku=sku) if m.value["op"] == "r"), None))
    assert read.value["after"] == inserted.value["after"]
    assert read.value["source"]["snapshot"] == "incremental"
    assert read.value["source"]["lsn"] is None
    assert read.partition == inserted.partition


def test_the_heartbeat_goes_on_by_itself(settings: Settings, db: psycopg.Connection) -> None:
    with tailing(settings, topics.HEARTBEAT) as tail:
        beats = eventually(lambda: len(tail.of(id=1)) > 1 and tail.of(id=1))
    assert beats[0].value["after"]["beat_at"] < beats[1].value["after"]["beat_at"]


def test_rest_shows_no_secret(settings: Settings) -> None:
    with httpx.Client(base_url=str(settings.connect_url), trust_env=False) as http:
        shown = http.get(f"/connectors/{NAME}/config").json()
        tasks = http.get(f"/connectors/{NAME}/tasks").json()
    for config in (shown, *(task["config"] for task in tasks)):
        assert config["database.password"] == "${env:DEBEZIUM_POSTGRES_PASSWORD}"


def test_applying_again_changes_nothing(connect: ConnectClient) -> None:
    config = connect.get_config(NAME)
    assert config is not None
    applied = apply(connect, NAME, config, say=print)
    assert applied.outcome is Outcome.UNCHANGED
    assert applied.status.running


@pytest.fixture
def scratch(
    settings: Settings, connect: ConnectClient, db: psycopg.Connection
) -> Iterator[dict[str, str]]:
    """The connector's configuration with a slot and topics of its own."""
    tag = f"scratch_{uuid4().hex[:8]}"
    config = connect.get_config(NAME)
    assert config is not None
    config |= {
        "name": tag,
        "topic.prefix": tag,
        "slot.name": tag,
        "table.include.list": "inventory\\.channel",
        "signal.enabled.channels": "source",
    }
    names = [f"{tag}.inventory.channel", f"__debezium-heartbeat.{tag}"]
    specs = [TopicSpec(name, "delete", 1) for name in names]
    ensure_topics(settings.kafka_bootstrap, specs, 1, say=print)
    yield config
    if connect.get_config(tag) is not None:
        drop_slot(connect, db, tag)
        connect.delete(tag)


def drop_slot(connect: ConnectClient, db: psycopg.Connection, name: str) -> None:
    """Stop a connector and drop its slot, as a restored or failed-over Postgres would."""
    connect.stop(name)

    def dropped() -> bool:
        db.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
            "WHERE slot_name = %s AND NOT active",
            [name],
        )
        left = db.execute("SELECT FROM pg_replication_slots WHERE slot_name = %s", [name])
        return left.fetchone() is None

    eventually(dropped)


def test_a_recreated_slot_is_an_error_and_not_a_silent_gap(
    settings: Settings, connect: ConnectClient, db: psycopg.Connection, scratch: dict[str, str]
) -> None:
    name = scratch["name"]
    topic = f"{name}.inventory.channel"
    with tailing(settings, topic) as tail:
        apply(connect, name, scratch, say=print)
        db.execute("UPDATE inventory.channel SET buffer = buffer WHERE name = 'web'")
        eventually(lambda: [m for m in tail.of(name="web") if m.value["op"] == "u"])
    drop_slot(connect, db, name)
    db.execute("UPDATE inventory.channel SET buffer = buffer WHERE name = 'web'")
    db.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
    with pytest.raises(ConnectorError, match="no longer available on the server"):
        apply(connect, name, scratch, say=print)
