"""What the observers make of what arrives; the servers are not needed for that."""

import pytest

from bench.arrivals import REDIS, Arrivals, Edits
from bench.backlog import GROUPS, Position
from bench.channel_observer import Watched, commit_time
from bench.latencies import Latencies, LatencySummary
from bench.observers import CHANNELS, Report
from bench.redis_observer import Pairing
from inventory.messages import snapshot_end, timestamp
from inventory.projection import SkuProjection


@pytest.fixture
def latencies():
    return Latencies()


@pytest.fixture
def arrivals(latencies):
    return Arrivals({REDIS: latencies}, Edits(), since_us=0)


@pytest.fixture
def pairing(arrivals):
    return Pairing(arrivals)


def shows(committed_us):
    """A projection of this commit."""
    return SkuProjection("", 1, "", committed_us, committed_us, {})


def test_a_write_is_as_old_as_the_commit_that_it_shows(pairing, arrivals, latencies):
    pairing.written(b"{A}", 1_300)
    pairing.answered(shows(1_200))
    arrivals.settle()
    assert (latencies.count, latencies.percentile(1.0)) == (1, 100)


def test_a_write_that_was_written_over_does_not_take_the_later_commit(pairing, arrivals, latencies):
    pairing.written(b"{A}", 1_000)
    pairing.written(b"{A}", 1_500)
    pairing.answered(shows(1_490))  # both answers show the second write
    pairing.answered(shows(1_490))
    arrivals.settle()
    assert pairing.overtaken == 1
    assert (latencies.count, latencies.percentile(1.0)) == (1, 10)


def test_answers_belong_to_the_questions_in_their_order(pairing, arrivals, latencies):
    pairing.written(b"{A}", 1_000)
    pairing.written(b"{B}", 1_000)
    pairing.answered(shows(900))
    pairing.written(b"{A}", 2_000)  # after its own answer: not overtaken
    pairing.answered(shows(800))
    pairing.answered(shows(1_700))
    arrivals.settle()
    assert (latencies.count, pairing.overtaken) == (3, 0)
    assert latencies.percentile(1.0) == 300


def test_a_sku_without_a_projection_is_no_latency(pairing, arrivals, latencies):
    pairing.written(b"{A}", 1_000)
    pairing.answered(None)
    arrivals.settle()
    assert (latencies.count, pairing.overtaken) == (0, 0)


def test_the_commit_time_is_read_from_the_header_to_the_microsecond():
    committed_us = 1_795_235_627_326_925
    headers = {"ce_id": b"1", "ce_time": timestamp(committed_us).encode()}
    assert commit_time(headers) == committed_us


def test_the_end_of_a_back_fill_tells_of_no_commit():
    end = snapshot_end("stock.web.v1", 0, 1, 6)
    assert commit_time(dict(end.headers)) is None


def test_units_are_added_up_over_the_warehouses():
    watched = Watched("SKU-1")
    watched.told("web", b'{"sku": "SKU-1", "available": 9}')
    watched.told("wms", b'{"warehouse": "A", "on_hand": 5, "reserved": 1, "available": 3}')
    watched.told("wms", b'{"warehouse": "B", "on_hand": 5, "reserved": 1, "available": 4}')
    watched.told("erp", b'{"warehouse": "A", "on_hand": 5, "reserved": 1}')
    watched.told("wms", b'{"warehouse": "A", "on_hand": 4, "reserved": 1, "available": 2}')
    watched.told("web", None)
    assert watched.units() == {"web": 9, "wms": 6, "erp": 4}


@pytest.mark.parametrize(
    ("key", "concerned"),
    [(b"SKU-1", True), (b"SKU-1|WH-2", True), (b"SKU-10", False), (b"SKU-10|WH-2", False)],
)
def test_a_watched_sku_is_known_by_its_key(key, concerned):
    assert Watched("SKU-1").concerns(key) is concerned


def test_a_report_survives_its_line():
    report = Report(
        {"web": LatencySummary(2, 1.0, 1.0, 2.0, 2.0, 2.0), "erp": Latencies().summary()},
        overtaken=3,
        watched={"web": 9},
        cpu=0.05,
        edits={1_795_235_627_326_925: {"web": Latencies().summary()}},
    )
    assert "\n" not in report.to_json()
    assert Report.from_json(report.to_json()) == report


def test_every_default_channel_is_observed():
    assert set(CHANNELS.values()) == {"web", "app", "wms", "erp"}


def test_the_slower_group_is_the_backlog():
    position = Position(100, dict(zip(GROUPS, (100, 40), strict=True)))
    assert position.lags == dict(zip(GROUPS, (0, 60), strict=True))
    assert position.lag == 60
