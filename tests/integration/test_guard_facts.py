"""What the doctor reads, from the real servers and from none."""

import psycopg
import pytest

from guard.checks import examine
from guard.facts import Unread
from guard.facts_kafka import read_kafka
from guard.facts_postgres import read_postgres
from guard.facts_redis import open_redis, read_redis
from guard.finding import Severity
from guard.look import look
from guard.names import RIGHTS
from inventory.groups import GROUPS
from inventory.topics import ALL_TOPICS
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
    facts = read_kafka(settings.kafka_bootstrap, [ALL_TOPICS[0].name, "no.such"], ["nobody"])
    assert facts.groups["nobody"].members == 0
    assert facts.topics.keys() == {ALL_TOPICS[0].name}
