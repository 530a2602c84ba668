"""What the doctor reads, from the real servers and from none."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from guard import topics
from guard.checks import examine
from guard.facts import Unread
from guard.facts_kafka import read_kafka, read_topics
from guard.facts_postgres import read_postgres, read_stock_version
from guard.facts_redis import open_redis, read_redis
from guard.finding import Severity
from guard.look import look
from guard.names import RIGHTS
from guard.topic_settings import to_be_set
from inventory.groups import GROUPS
from inventory.policy import ChannelKind
from inventory.topics import ALL_TOPICS, channel_topic_spec
from tests.polling import eventually

pytestmark = pytest.mark.integration


def test_a_whole_stack_is_well(stack, settings):
    def well():
        facts = look(settings, {})
        wrong = [finding for finding in examine(facts) if finding.severity]
        assert not wrong, wrong
        return facts

    facts = eventually(well, interval=0.5)
    assert facts.postgres.slot.active
    assert facts.postgres.wal_rate is not None
    # As root it can be seen, as anybody else perhaps not.
    assert facts.postgres.disk_free is None or facts.postgres.disk_free > 0
    assert facts.kafka.groups.keys() == set(GROUPS)


def test_what_is_down_is_a_finding_of_its_own(settings):
    nowhere = settings.model_copy(
        update={
            "postgres_dsn": "postgresql://stockwire_app@127.0.0.1:9/stockwire",
            "redis_url": "redis://127.0.0.1:9/0",
            "kafka_bootstrap": "127.0.0.1:9",
            "connect_url": "http://127.0.0.1:9",
        }
    )
    facts = look(nowhere, {"ledger": 9})
    assert all(
        isinstance(part, Unread)
        for part in (facts.postgres, facts.redis, facts.kafka, facts.connect)
    )
    found = examine(facts)
    assert [f.severity for f in found].count(Severity.CRITICAL) == 4
    assert {f.subject for f in found} == {"postgres", "redis", "kafka", "connect", "ledger"}


def test_rights_that_are_taken_away_are_named(database, settings):
    app = database
    assert read_postgres(app, 0).missing_rights == ()
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("REVOKE SELECT ON inventory.channel FROM stockwire_debezium")
        try:
            assert read_postgres(app, 0).missing_rights == ("SELECT on inventory.channel",)
        finally:
            owner.execute("GRANT SELECT ON inventory.channel TO stockwire_debezium")
    assert ("SELECT", "inventory.channel") in RIGHTS


def test_a_version_sequence_that_may_not_be_read_is_unknown_and_not_zero(database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT setval('inventory.stock_version', 2, false)")
        assert read_stock_version(connection) == 0
        connection.execute("SELECT nextval('inventory.stock_version')")
        connection.execute("REVOKE ALL ON SEQUENCE inventory.stock_version FROM stockwire_app")
        try:
            assert read_stock_version(connection) > 0
            connection.execute("SET ROLE stockwire_app")
            assert read_stock_version(connection) is None
        finally:
            connection.execute("RESET ROLE")
            connection.execute("GRANT USAGE ON SEQUENCE inventory.stock_version TO stockwire_app")
        connection.execute("SET ROLE stockwire_app")
        assert read_stock_version(connection) > 0


def test_a_database_without_its_parts_says_so(database):
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("ALTER PUBLICATION stockwire DROP TABLE inventory.channel_sku")
        owner.execute("ALTER TABLE inventory.stock REPLICA IDENTITY DEFAULT")
        try:
            facts = read_postgres(database, 0)
        finally:
            owner.execute("ALTER TABLE inventory.stock REPLICA IDENTITY FULL")
            owner.execute("ALTER PUBLICATION stockwire ADD TABLE inventory.channel_sku")
    assert "inventory.channel_sku" not in facts.published
    assert "inventory.stock" in facts.published
    assert facts.identities["inventory.stock"] == "d"
    # The slot is of another database.
    assert facts.slot is None


def test_the_application_may_stop_the_line_and_not_let_it_go_on(database):
    role = "SET ROLE stockwire_app"
    with psycopg.connect(database, autocommit=True) as app:
        app.execute(role)
        app.execute("INSERT INTO inventory.line_stop (reason) VALUES ('told 9')")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("DELETE FROM inventory.line_stop")
        app.execute("RESET ROLE")
        try:
            stopped = read_postgres(database, 0).stopped
        finally:
            app.execute("DELETE FROM inventory.line_stop")
    assert stopped is not None
    assert stopped.reason == "told 9"
    assert read_postgres(database, 0).stopped is None


def test_settings_of_redis_are_seen(stack, settings):
    with open_redis(str(settings.redis_url)) as client:
        assert read_redis(client).policy == "noeviction"
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert read_redis(client).policy == "allkeys-lru"
        finally:
            client.config_set("maxmemory-policy", "noeviction")


def test_a_group_that_never_was_has_no_members(stack, settings):
    facts = read_kafka(
        settings.kafka_bootstrap, [ALL_TOPICS[0].name, "no.such"], {"nobody": ["no.such"]}
    )
    assert facts.groups["nobody"].members == 0
    assert facts.groups["nobody"].lag == 0
    assert facts.topics.keys() == {ALL_TOPICS[0].name}


def test_every_setting_of_a_topic_is_seen(stack, settings):
    facts = read_kafka(settings.kafka_bootstrap, [spec.name for spec in ALL_TOPICS], {"nobody": []})
    for spec in ALL_TOPICS:
        assert spec.settings().items() <= facts.topics[spec.name].config.items()


@pytest.fixture
def own_topic(stack, settings):
    """A topic of three partitions with ten records each, and a group's name."""
    name = f"guard-{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    (made,) = admin.create_topics([NewTopic(name, 3, 1)]).values()
    made.result(30)
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    for number in range(30):
        producer.produce(name, b"value", partition=number % 3)
    assert producer.flush(30) == 0
    yield admin, name
    (gone,) = admin.delete_topics([name]).values()
    gone.result(30)


def confirm(admin, group, topic, partition, offset):
    place = TopicPartition(topic, partition, offset)
    asked = ConsumerGroupTopicPartitions(group, [place])
    (done,) = admin.alter_consumer_group_offsets([asked]).values()
    done.result(30)


def test_one_partition_that_stands_still_is_seen_beside_others_that_move(settings, own_topic):
    admin, topic = own_topic
    confirm(admin, topic, topic, 0, 1)
    confirm(admin, topic, topic, 1, 10)
    end = threading.Event()

    def work():
        # Partition 0 moves on, 1 has no more, 2 was never confirmed.
        for offset in (*range(2, 10), *[9] * 100):
            confirm(admin, topic, topic, 0, offset)
            if end.wait(0.3):
                return

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        facts = read_kafka(settings.kafka_bootstrap, [], {topic: [topic]})
        end.set()
        working.result()
    assert facts.groups[topic].stuck == {(topic, 2): 10}
    assert 11 <= facts.groups[topic].lag <= 19


def test_topics_that_are_missing_or_altered_are_put_right(stack, settings, monkeypatch):
    made = channel_topic_spec(f"stock.guard-{uuid4().hex[:8]}.v1", ChannelKind.AVAILABILITY)
    monkeypatch.setattr(topics, "wanted_topics", lambda _: (made,))
    said = []
    topics.recover_topics(settings, said.append)
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    try:
        assert any("created" in line for line in said)
        topics._set(admin, made.name, {"cleanup.policy": "delete", "segment.ms": "60000"})
        eventually(lambda: to_be_set(made, read_topics(admin, [made.name])[made.name]))
        topics.recover_topics(settings, said.append)
        assert to_be_set(made, read_topics(admin, [made.name])[made.name]) == {}
    finally:
        (gone,) = admin.delete_topics([made.name]).values()
        gone.result(30)


def test_the_topics_of_channels_are_those_that_there_are(database):
    """A default channel may be gone, and its topic another channel's."""
    with psycopg.connect(database, autocommit=True) as owner:
        there = {spec.name: spec for spec in topics.wanted_topics(database)}
        assert there == {spec.name: spec for spec in ALL_TOPICS}
        owner.execute("DELETE FROM inventory.channel WHERE name IN ('erp', 'app')")
        owner.execute(
            "INSERT INTO inventory.channel (name, kind, topic)"
            " VALUES ('market', 'availability', 'stock.erp.v1')"
        )
    wanted = {spec.name: spec for spec in topics.wanted_topics(database)}
    assert wanted["stock.erp.v1"].cleanup == "compact"
    assert "stock.app.v1" not in wanted
