"""Stock changes and what a policy edit had computed anew are counted apart."""

import pytest

from bench.arrivals import REDIS, Arrivals, Edits
from bench.latencies import Latencies

SECOND = 1_000_000
EDIT = 100 * SECOND


@pytest.fixture
def edits():
    return Edits()


@pytest.fixture
def latencies():
    return {REDIS: Latencies(), "web": Latencies()}


@pytest.fixture
def arrivals(latencies, edits):
    return Arrivals(latencies, edits, since_us=EDIT - 10 * SECOND)


def counted(latencies):
    return {place: found.count for place, found in latencies.items()}


def slowest(edits, edit=EDIT):
    return {place: (s.count, s.max) for place, s in edits.summaries()[edit].items()}


def test_an_edit_is_not_among_the_stock_changes(arrivals, latencies, edits):
    edits.committed(EDIT)
    arrivals.add("web", b"A", b"A|1", EDIT - SECOND, EDIT - SECOND + 9_000)
    arrivals.add("web", b"A", b"A|2", EDIT, EDIT + 40_000)
    arrivals.add("web", b"B", b"B|2", EDIT, EDIT + 300_000)
    arrivals.settle()
    assert counted(latencies) == {REDIS: 0, "web": 1}
    assert slowest(edits) == {"web": (2, 300.0)}


def test_an_edit_may_become_known_after_its_first_messages(arrivals, latencies, edits):
    arrivals.add("web", b"A", b"A|2", EDIT, EDIT + 30_000)
    arrivals.settle(EDIT + 200_000)
    edits.committed(EDIT)
    arrivals.settle(EDIT + 2 * SECOND)
    assert counted(latencies)["web"] == 0
    assert slowest(edits) == {"web": (1, 30.0)}


def test_what_comes_again_is_no_news(arrivals, latencies):
    """A worker tells a SKU again that stock had changed meanwhile: its subscribers know."""
    arrivals.add("web", b"A", b"A|7", EDIT + 5_000, EDIT + 25_000)
    arrivals.add("web", b"A", b"A|7", EDIT + 5_000, EDIT + 60 * SECOND)
    arrivals.add(REDIS, b"A", b"7", EDIT + 5_000, EDIT + 20_000)
    arrivals.settle()
    assert counted(latencies) == {REDIS: 1, "web": 1}
    assert latencies["web"].percentile(1.0) == 20_000


def test_what_was_committed_before_the_counting_began_is_not_counted(arrivals, latencies):
    """It may be told for the second time, by a worker that tells a channel everything."""
    old = EDIT - 11 * SECOND
    arrivals.add("web", b"A", b"A|7", old, EDIT)
    arrivals.settle()
    assert counted(latencies)["web"] == 0


def test_a_change_told_by_the_old_policy_and_then_by_the_new_one(arrivals, latencies, edits):
    """The second message has the change's commit time, and is the edit's doing."""
    edits.committed(EDIT)
    arrivals.add("web", b"A", b"A|7", EDIT + 5_000, EDIT + 25_000)
    arrivals.add("web", b"A", b"A|8", EDIT + 5_000, EDIT + 700_000)
    arrivals.settle()
    assert latencies["web"].percentile(1.0) == 20_000
    assert slowest(edits) == {"web": (1, 700.0)}


def test_two_rows_of_one_commit_are_two_changes(arrivals, latencies, edits):
    edits.committed(EDIT)
    late = EDIT + 5 * SECOND
    arrivals.add("web", b"A", b"A|7", late, late + 10_000)
    arrivals.add("web", b"A", b"A|8", late, late + 90_000)
    arrivals.settle()
    assert counted(latencies)["web"] == 2
    assert slowest(edits) == {}


def test_stock_that_waits_behind_an_edit_stays_with_stock(arrivals, latencies, edits):
    edits.committed(EDIT)
    arrivals.add("web", b"A", b"A|7", EDIT + 20_000, EDIT + 420_000)
    arrivals.settle()
    assert latencies["web"].percentile(1.0) == 400_000
