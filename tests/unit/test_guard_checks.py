"""Each check of the doctor finds what it is for, and is silent when all is well."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from connectors.apply import CONNECTOR, CONNECTOR_FILE, load_connector
from connectors.client import ConnectorStatus, TaskStatus
from guard.checks import CHECKS, examine
from guard.checks.slot import hours_until_full, share_used, size
from guard.checks.versions import set_back
from guard.decide import Check
from guard.facts import (
    ConnectFacts,
    Facts,
    GroupFacts,
    KafkaFacts,
    LineStop,
    PostgresFacts,
    ProcessFacts,
    RedisFacts,
    SlotFacts,
    TopicFacts,
    Unread,
)
from guard.finding import Severity, worst
from guard.names import PUBLICATION, PUBLISHED, SLOT, WHOLE_ROWS
from inventory.groups import GROUPS, READS
from inventory.policy import ChannelKind
from inventory.topics import ALL_TOPICS, STOCK, channel_topic_spec
from projections.checkpoint import CheckpointState
from stream.worker import AGENTS
from tests.conftest import ROOT

GIB = 2**30
RUNBOOK = ROOT / "docs" / "runbook.md"
CONFIG = load_connector(CONNECTOR_FILE)
RUNNING = ConnectorStatus("RUNNING", "here:1", (TaskStatus(0, "RUNNING"),))
FAILED = ConnectorStatus("RUNNING", "here:1", (TaskStatus(0, "FAILED", "it broke"),))

WELL = Facts(
    postgres=PostgresFacts(
        version=180004,
        wal_level="logical",
        max_slots=10,
        slots=1,
        slot_keep_mb=4096,
        published=PUBLISHED,
        identities=dict.fromkeys(PUBLISHED, "d") | dict.fromkeys(WHOLE_ROWS, "f"),
        slot=SlotFacts(True, "reserved", 900, 950, 2**20, 4 * GIB),
        wal_position=1000,
        wal_rate=2**20,
        retained_rate=2**18,
        disk_free=100 * GIB,
        skew=0.01,
        stock_version=200,
        missing_rights=(),
    ),
    connect=ConnectFacts({**CONFIG, "name": CONNECTOR}, RUNNING, 940, True),
    kafka=KafkaFacts(
        {spec.name: TopicFacts(spec.partitions or 6, 1, spec.settings()) for spec in ALL_TOPICS},
        {group: GroupFacts(1, 12) for group in GROUPS},
    ),
    redis=RedisFacts(
        version=(8, 0, 1),
        policy="noeviction",
        maxmemory=0,
        used=2**20,
        append_only=True,
        write_error=None,
        role="master",
        link_up=True,
        replica_lag=None,
        skew=0.0,
        checkpoint=CheckpointState(MappingProxyType({}), 201, frozenset()),
    ),
    processes={"guardian": ProcessFacts(True, True)},
    config=CONFIG,
    topics=ALL_TOPICS,
    partitions=6,
)


def postgres(**changes):
    return replace(WELL, postgres=replace(WELL.postgres, **changes))


def slot(**changes):
    return postgres(slot=replace(WELL.postgres.slot, **changes))


def connect(**changes):
    return replace(WELL, connect=replace(WELL.connect, **changes))


def redis(**changes):
    return replace(WELL, redis=replace(WELL.redis, **changes))


def topic(**changes):
    topics = {**WELL.kafka.topics, STOCK: replace(WELL.kafka.topics[STOCK], **changes)}
    return replace(WELL, kafka=replace(WELL.kafka, topics=topics))


def group(**changes):
    groups = {**WELL.kafka.groups, GROUPS[0]: GroupFacts(**{"members": 1, "lag": 0} | changes)}
    return replace(WELL, kafka=replace(WELL.kafka, groups=groups))


def process(**changes):
    state = {"live": True, "ready": True, "reasons": {"slot": "is gone"}} | changes
    return replace(WELL, processes={"guardian": ProcessFacts(**state)})


def without(*parts):
    return replace(WELL, **{part: Unread("no route to it") for part in parts})


C, W = Severity.CRITICAL, Severity.WARNING
STOPPED = ConnectorStatus("STOPPED", "here:1", ())
TOPICS = WELL.kafka.topics
MARKETPLACE = channel_topic_spec("stock.marketplace.v1", ChannelKind.AVAILABILITY)
NO_TOPIC = {name: found for name, found in TOPICS.items() if name != STOCK}

#: check, facts in which it finds something, how bad, what is said, what mends it.
BROKEN = [
    ("database answers", without("postgres"), C, "no route to it", "make up"),
    ("wal_level", postgres(wal_level="replica"), C, "wal_level is replica", "wal_level = logical"),
    ("free slots", postgres(slot=None, slots=10), C, "all 10", "max_replication_slots"),
    ("publication", postgres(published=PUBLISHED - {"inventory.stock"}), C,
     "lacks inventory.stock", "ALTER PUBLICATION stockwire ADD TABLE inventory.stock"),
    ("replica identity", postgres(identities={**WELL.postgres.identities, "inventory.stock": "d"}),
     C, "inventory.stock is not FULL", "REPLICA IDENTITY FULL"),
    ("rights", postgres(missing_rights=("SELECT on inventory.stock",)), W,
     "lacks SELECT on inventory.stock", "GRANT SELECT ON inventory.stock TO stockwire_debezium"),
    ("rights", postgres(missing_rights=("REPLICATION",)), W, "lacks REPLICATION",
     "ALTER ROLE stockwire_debezium REPLICATION"),
    ("rights", postgres(missing_rights=("LOGIN as stockwire_debezium",)), W, "lacks LOGIN",
     "0004_capture.sql"),
    ("limit of the slot", postgres(slot_keep_mb=-1), W, "without limit", "max_slot_wal_keep_size"),
    ("slot", postgres(slot=None), C, f"no replication slot {SLOT}", "stockwire recover slot"),
    ("slot", slot(wal_status="lost", retained=None, safe=None), C, "lost", "recover slot"),
    ("slot", slot(wal_status="unreserved"), C, "unreserved", "max_slot_wal_keep_size"),
    ("slot", slot(retained=3 * GIB, safe=2 * GIB), W, "60% of what", "max_slot_wal_keep_size"),
    ("slot", slot(retained=4 * GIB, safe=GIB // 2), C, "89% of what", "max_slot_wal_keep_size"),
    ("slot is read", slot(active=False, inactive_seconds=5.0), W, "nobody reads it", "make up"),
    ("slot is read", slot(active=False, inactive_seconds=90.0), C, "for 90 s", "make up"),
    ("disk", postgres(slot=replace(WELL.postgres.slot, active=False, safe=None),
                      disk_free=10 * GIB), W, "full in 2.8 hours", "pg_drop_replication_slot"),
    ("disk", postgres(slot=replace(WELL.postgres.slot, active=False, safe=None),
                      disk_free=GIB), C, "full in 0.3 hours", "pg_drop_replication_slot"),
    ("disk", postgres(
        slot=replace(WELL.postgres.slot, safe=None, retained=GIB), disk_free=10 * GIB,
        retained_rate=2**20), W, "full in 2.8 hours", "let the connector read"),
    ("disk", postgres(disk_free=2**29), W, "512 MB free", "make room"),
    ("disk", postgres(disk_free=0), C, "0 bytes free", "make room"),
    ("restored", postgres(stock_version=None), W, "cannot be read",
     "GRANT USAGE ON SEQUENCE inventory.stock_version"),
    ("restored", postgres(stock_version=198), C, "Redis was told 201", "recover database"),
    ("restored", connect(offset=1001), C, "1001 were read", "recover database"),
    ("restored", slot(confirmed=1001), C, "1001 were read", "recover database"),
    ("line stopped", postgres(stopped=LineStop("told 9", datetime(2026, 11, 21, tzinfo=UTC))), C,
     "since 2026-11-21 00:00:00 UTC: told 9", "recover database"),
    ("Connect answers", without("connect"), C, "no route to it", "make up"),
    ("Connect answers", connect(has_plugin=False), C, "PostgresConnector", "make setup"),
    ("connector", connect(status=None), C, "not known", "make up"),
    ("connector", connect(status=FAILED), C, "task 0: it broke", "stockwire logs connect"),
    ("connector", connect(status=STOPPED), C, "STOPPED, no task", "make up"),
    ("connector",
     connect(status=replace(FAILED, tasks=(TaskStatus(0, "FAILED", "no longer available on the "
                                                     "server"),))), C, "no longer", "recover slot"),
    ("configuration", connect(config={**CONFIG, "name": CONNECTOR, "poll.interval.ms": "500"}), W,
     "differs from the file in poll.interval.ms", "make up"),
    ("Kafka answers", without("kafka"), C, "no route to it", "make up"),
    ("topics", replace(WELL, kafka=replace(WELL.kafka, topics=NO_TOPIC)), C,
     f"{STOCK} does not exist", "stockwire recover topics"),
    ("topics", topic(partitions=3), C, "3 partitions instead of 6", "STOCKWIRE_PARTITIONS"),
    ("topics", topic(config={"cleanup.policy": "delete"}), W, "cleanup.policy=delete instead of",
     "stockwire recover topics"),
    *(
        ("topics", topic(config={**TOPICS[STOCK].config, key: "1"}), W, f"{key}=1 instead of",
         "stockwire recover topics")
        for key in ("segment.ms", "min.cleanable.dirty.ratio")
    ),
    ("topics", topic(config={"min.insync.replicas": "2"}), C, "wants 2 replicas",
     "stockwire recover topics"),
    ("topics", replace(WELL, topics=(*ALL_TOPICS, MARKETPLACE)), C,
     "stock.marketplace.v1 does not exist", "stockwire recover topics"),
    ("groups", group(members=0), C, "has no member", "stockwire logs availability"),
    ("groups", group(lag=900, stuck={(STOCK, 3): 5}), C,
     f"stands still before 5 records of {STOCK}[3]", "stockwire logs availability"),
    ("groups", group(lag=50_000), W, "is behind", "another worker"),
    ("Redis answers", without("redis"), C, "no route to it", "make up"),
    ("Redis answers", redis(version=(6, 0, 9)), C, "older than 6.2", "install"),
    ("Redis policy", redis(policy="allkeys-lru"), C, "allkeys-lru", "maxmemory-policy noeviction"),
    ("Redis memory", redis(maxmemory=100, used=85), W, "85% of maxmemory", "maxmemory"),
    ("Redis memory", redis(maxmemory=100, used=96), C, "96% of maxmemory", "maxmemory"),
    ("Redis persistence", redis(append_only=False), W, "append-only file is off", "appendonly yes"),
    ("Redis persistence", redis(write_error="aof_last_write_status"), C, "cannot write", "room"),
    ("Redis role", redis(role="slave", link_up=False), C, "is a slave, its link down", "primary"),
    ("Redis role", redis(replica_lag=GIB), W, "1024 MB behind", "replica's log"),
    ("clocks", postgres(skew=-5.0), W, "postgres's clock is 5.0 s behind", "NTP"),
    ("clocks", redis(skew=3600.0), C, "redis's clock is 3600.0 s ahead", "NTP"),
    ("processes", process(live=False), C, "it hangs (slot: is gone)", "kill -9"),
    ("processes", replace(WELL, processes={"ledger": ProcessFacts(False, False)}), C, "it hangs",
     "its watchdog ends it"),
    ("processes", process(ready=False), W, "not ready: slot: is gone", "logs guardian"),
    ("processes", replace(WELL, processes={"ledger": Unread("nothing answers")}), W,
     "nothing answers", "logs ledger"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "facts", "severity", "what", "mend"), BROKEN)
def test_a_check_finds_what_it_is_for(check, facts, severity, what, mend):
    wrong = [finding for finding in CHECKS[check](facts) if finding.severity]
    (finding,) = wrong
    assert finding.severity is severity
    assert what in finding.what
    assert mend in finding.mend
    assert finding.why


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_is_silent_when_all_is_well(check):
    assert not any(finding.severity for finding in CHECKS[check](WELL))


def test_every_check_has_an_example_of_trouble():
    assert {example[0] for example in BROKEN} == set(CHECKS)


def test_a_finding_says_which_check_has_it():
    assert {finding.check for finding in examine(WELL)} <= set(CHECKS)
    assert "" not in {finding.check for finding in examine(WELL)}


def test_the_runbook_has_an_entry_for_each_check_and_no_other():
    """Headings are `## check, check: what is wrong`."""
    text = RUNBOOK.read_text("utf-8")
    named = [
        name.strip()
        for heading in re.findall(r"^## ([^:\n]+): ", text, re.MULTILINE)
        for name in heading.split(",")
    ]
    assert sorted(named) == sorted(CHECKS)


def test_the_runbook_says_what_each_problem_of_the_guardian_is():
    text = RUNBOOK.read_text("utf-8")
    table = text.partition("## What the guardian's readiness says")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(Check)


def test_what_cannot_be_read_is_a_finding_and_hides_no_other():
    down = replace(
        without("postgres", "connect", "kafka", "redis"),
        processes={"ledger": Unread("nothing answers")},
    )
    found = examine(down)
    assert {f.subject for f in found} == {"postgres", "connect", "kafka", "redis", "ledger"}
    assert all(f.severity for f in found)
    assert worst(found) is Severity.CRITICAL
    assert worst(examine(WELL)) is Severity.OK
    assert worst([]) is Severity.OK


def test_a_delete_of_the_newest_row_is_not_a_database_set_back():
    # The row has 200, and its delete is told as 201.
    assert set_back(stock_version=200, told_version=201, wal_position=9, read_position=9) is None
    assert set_back(stock_version=200, told_version=202, wal_position=9, read_position=9)
    assert (
        set_back(stock_version=200, told_version=None, wal_position=9, read_position=None) is None
    )
    assert set_back(stock_version=200, told_version=None, wal_position=9, read_position=10)


def test_an_unknown_version_is_not_a_database_set_back():
    assert set_back(stock_version=None, told_version=9, wal_position=9, read_position=9) is None
    # What can be compared still is.
    assert set_back(stock_version=None, told_version=9, wal_position=9, read_position=10)


def test_a_slot_that_is_read_fills_no_disk_unless_it_falls_behind():
    def hours(**changes):
        behind = replace(WELL.postgres.slot, safe=None, **changes)
        return hours_until_full(postgres(slot=behind, disk_free=3600 * 2**20, retained_rate=2**20))

    assert hours(retained=2**20) is None
    assert hours(retained=2**30) == pytest.approx(1.0)
    catching_up = replace(WELL.postgres.slot, safe=None, retained=2**30)
    assert hours_until_full(postgres(slot=catching_up, retained_rate=-1.0)) is None


def test_topics_of_channels_are_looked_at():
    there = {**TOPICS, MARKETPLACE.name: TopicFacts(6, 1, {"cleanup.policy": "delete"})}
    facts = replace(
        WELL, topics=(*ALL_TOPICS, MARKETPLACE), kafka=replace(WELL.kafka, topics=there)
    )
    (finding,) = (f for f in CHECKS["topics"](facts) if f.severity)
    assert "stock.marketplace.v1 has cleanup.policy=delete" in finding.what


def test_the_disk_fills_only_while_the_slot_may_keep_more_than_it_has():
    idle = replace(WELL.postgres.slot, active=False)
    assert hours_until_full(postgres(slot=idle, disk_free=100 * GIB)) is None
    assert hours_until_full(
        postgres(slot=replace(idle, safe=None), disk_free=3600 * 2**20)
    ) == pytest.approx(1.0)
    assert hours_until_full(postgres(slot=None)) is None


def test_a_slot_over_its_limit_has_used_all_of_it():
    assert share_used(10, -5) == 1.0
    assert share_used(10, 10) == 0.5
    assert share_used(10, None) is None
    assert share_used(None, 10) is None


def test_sizes_for_people():
    assert [size(n) for n in (None, 12, 2**11, 3 * 2**20, 5 * GIB)] == [
        "none", "12 bytes", "2 kB", "3 MB", "5.0 GB",
    ]  # fmt: skip


def test_the_guard_means_what_the_others_do():
    assert set(READS) == set(AGENTS)
    assert (CONFIG["slot.name"], CONFIG["publication.name"]) == (SLOT, PUBLICATION)
    captured = CONFIG["table.include.list"].replace("\\", "").split(",")
    assert {*captured, CONFIG["signal.data.collection"]} == PUBLISHED
