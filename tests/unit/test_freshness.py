"""How fresh a worker calls itself."""

import time

import orjson
import pytest

from health import Health
from stream.freshness import FRESH, Ages, Freshness, Heartbeat


def beat(seconds: float) -> bytes:
    return orjson.dumps({"op": "u", "source": {"ts_us": int(seconds * 1e6)}})


@pytest.mark.parametrize(
    ("ages", "says"),
    [
        (Ages(1.0, 0.0, 0.0), None),
        (Ages(10.0, 9.0, 8.0), None),
        (Ages(42.0, 0.0, 0.0), "heartbeat that Debezium has sent from Postgres is 42 s old"),
        (Ages(1.0, 5000.0, 0.0), "came into Kafka 5,000 s ago is not applied yet"),
        (Ages(1.0, 0.0, 11.0), "records have waited in Kafka for 11 s"),
    ],
)
def test_the_oldest_of_all_decides_and_is_named(ages: Ages, says: str | None):
    problem = ages.problem(10.0)
    assert (problem is None) == (says is None)
    assert says is None or (says in problem and "10 s is the limit" in problem)
    assert ages.freshness() == max(ages.heartbeat, ages.unconfirmed, ages.standing)


def test_the_newest_heartbeat_counts():
    heartbeat = Heartbeat()
    assert not heartbeat.known
    heartbeat.take(beat(1000.0), monotonic=5.0)
    heartbeat.take(beat(999.0), monotonic=6.0)  # an older one, sent again
    heartbeat.take(None, monotonic=7.0)
    assert heartbeat.known
    assert heartbeat.age(wall=1003.0, monotonic=8.0) == 3.0


def test_a_clock_behind_that_of_postgres_hides_no_silence():
    heartbeat = Heartbeat()
    heartbeat.take(beat(5000.0), monotonic=10.0)
    assert heartbeat.age(wall=1400.0, monotonic=10.5) == 0.5
    assert heartbeat.age(wall=1430.0, monotonic=40.5) == 30.5


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'{"source":null}', b'{"source":{}}'])
def test_what_is_no_heartbeat_is_none(value: bytes):
    heartbeat = Heartbeat()
    heartbeat.take(value, monotonic=1.0)
    assert not heartbeat.known


def test_a_worker_is_not_fresh_before_the_first_heartbeat():
    health = Health("x")
    health.started()
    oldest: list[float | None] = [None]
    freshness = Freshness(health, "127.0.0.1:1", "x", lambda: oldest[0], lambda: 0.0, 10.0)
    assert FRESH in health.ready().reasons
    freshness._report()
    assert "no heartbeat" in health.ready().reasons[FRESH]

    freshness._heartbeat.take(beat(time.time()), time.monotonic())
    freshness._report()
    assert health.ready().ok
    assert health.ready().facts["freshness_seconds"] < 5
    oldest[0] = time.time() - 60
    freshness._report()
    assert "not applied yet" in health.ready().reasons[FRESH]
    oldest[0] = None
    freshness._report()
    assert health.ready().ok
