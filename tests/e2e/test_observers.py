"""What latencies are measured with: it sees every commit arrive, and leaves no trace."""

import time

import pytest
import redis

from bench.backlog import Backlog
from bench.observers import observing
from inventory.errors import Outage
from tests.polling import eventually

pytestmark = pytest.mark.e2e

INSERT = "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, %s)"
UPDATE = "UPDATE inventory.stock SET reserved = reserved + 1 WHERE sku = %s"


def test_every_commit_is_seen_to_arrive_and_is_as_old_as_that(stack, database, backlog, sku):
    with observing(stack.environment(), watch=sku) as observers:
        started = time.monotonic()
        end = backlog.end() + 2
        database.execute(INSERT, [sku, "T-1", 12])
        eventually(
            lambda: observers.report.watched == dict.fromkeys(["web", "app", "wms", "erp"], 12)
        )
        database.execute(UPDATE, [sku])
        eventually(lambda: set(observers.report.watched.values()) == {11})
        backlog.until_drained(end, patience=60)
        report = observers.finish()
        elapsed_ms = (time.monotonic() - started) * 1000
    assert set(report.latencies) == {"redis", "web", "app", "wms", "erp"}
    for place, latency in report.latencies.items():
        assert latency.count == 2, place
        assert 0 < latency.p50 <= latency.max < elapsed_ms, place


def test_redis_gets_its_own_notifications_back(stack, settings):
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        before = client.config_get("notify-keyspace-events")
        with observing(stack.environment()):
            assert client.config_get("notify-keyspace-events") != before
        assert client.config_get("notify-keyspace-events") == before


def test_observers_that_cannot_observe_say_so(stack, capfd):
    nowhere = stack.environment() | {"STOCKWIRE_REDIS_URL": "redis://127.0.0.1:1/0"}
    with pytest.raises(Outage, match="cannot be observed"), observing(nowhere):
        pass
    assert "Redis cannot be observed" in capfd.readouterr().err


def test_the_backlog_is_what_workers_have_not_confirmed(database, backlog, sku):
    end = backlog.end()
    database.execute(INSERT, [sku, "T-1", 12])
    seen = []
    assert backlog.until_drained(end + 1, patience=60, look=seen.append).lag == 0
    assert backlog.end() >= end + 1
    assert seen[-1].end >= end + 1


def test_a_backlog_that_does_not_move_is_given_up(backlog):
    with pytest.raises(Outage, match="Nothing has moved for 0 s"):
        backlog.until_drained(backlog.end() + 1_000_000, patience=0.3)


@pytest.fixture
def backlog(stack, settings):
    return Backlog(settings.kafka_bootstrap)
