"""From policy edits and a channel that refuses to figures beside their targets."""

import pytest

from bench.isolation import Isolation
from bench.latencies import LatencySummary
from bench.observers import Report
from bench.policy import EditsMade, LargeEdit
from bench.policy_edits import PolicyEdit
from bench.policy_targets import edits_figures, isolation_figures, large_edit_figures


def latency(p50, p99, count=1_000):
    return LatencySummary(count, p50, p99, p99, p99, p99)


SILENT = LatencySummary(0, None, None, None, None, None)


def edit(committed_us, whole_ms, skus=10_000):
    return PolicyEdit("web", 0, 2, committed_us, skus, None, whole_ms)


def values(figures):
    return {figure.name: figure.value for figure in figures}


def missed(figures):
    return {figure.name for figure in figures if figure.met is False}


@pytest.fixture
def three():
    """Edits 1, 2 and 3, seen everywhere."""
    seen = {
        at: {"redis": latency(1, p99, 10_000), "web": latency(1, p99 + 10, 10_000)}
        for at, p99 in ((1, 400.0), (2, 500.0), (3, 900.0))
    }
    report = Report({"redis": SILENT, "web": SILENT}, edits=seen)
    return EditsMade(0, (edit(1, 420.0), edit(2, 520.0), edit(3, 930.0)), report)


def test_edits_are_shown_by_their_median_and_their_slowest(three):
    figures = list(edits_figures(three))
    assert {figure.scenario for figure in figures} == {"3 policy edits of 10,000 SKUs, alone"}
    assert values(figures) == {
        "commit → all of it in Redis, p50": 500.0,
        "commit → all of it in Redis, max": 900.0,
        "SKUs seen in Redis, fewest": 10_000,
        "commit → all of it in web, p50": 510.0,
        "commit → all of it in web, max": 910.0,
        "SKUs seen in web, fewest": 10_000,
        "commit → all of it acknowledged, p50": 520.0,
        "commit → all of it acknowledged, max": 930.0,
    }
    assert missed(figures) == set()


def test_an_edit_slower_than_a_second_misses_its_target(three):
    three.report.edits[2]["web"] = latency(1, 1_001.0, 10_000)
    assert missed(edits_figures(three)) == {"commit → all of it in web, max"}


def test_an_edit_that_not_all_skus_were_seen_of_misses_its_target(three):
    three.report.edits[2]["redis"] = latency(1, 500.0, 9_999)
    assert missed(edits_figures(three)) == {"SKUs seen in Redis, fewest"}


def test_an_edit_that_was_not_seen_at_all_has_no_latency(three):
    del three.report.edits[3]["web"]
    figures = list(edits_figures(three))
    for name in ("p50", "max"):
        assert values(figures)[f"commit → all of it in web, {name}"] is None
    assert missed(figures) == {"commit → all of it in web, max", "SKUs seen in web, fewest"}


def test_under_load_some_skus_are_told_by_their_own_changes(three):
    three.report.edits[2]["web"] = latency(1, 510.0, 9_400)
    report = Report({"redis": latency(20.0, 70.0), "web": SILENT}, edits=three.report.edits)
    figures = list(edits_figures(EditsMade(1_000.0, three.edits, report)))
    assert missed(figures) == set()
    assert values(figures)["stock: commit → Redis, p99"] == 70.0
    assert "stock: commit → web, p99" not in values(figures)


@pytest.mark.parametrize(
    ("whole_ms", "p99", "expected"),
    [
        (125_000.0, 180.0, set()),
        (126_000.0, 180.0, {"computed anew"}),
        (125_000.0, 181.0, {"stock: commit → Redis, during, p99"}),
    ],
)
def test_a_large_edit_is_fast_enough_and_delays_nobody(whole_ms, p99, expected):
    before = Report({"redis": latency(20.0, 80.0), "web": latency(30.0, 100.0)})
    during = Report({"redis": latency(40.0, p99), "web": latency(50.0, 200.0)}, cpu=0.5)
    large = LargeEdit(95.0, 200.0, edit(1, whole_ms, 1_000_000), before, during)
    figures = list(large_edit_figures(large))
    assert missed(figures) == expected
    assert values(figures)["computed anew"] == 1_000_000 / (whole_ms / 1000)
    assert values(figures)["seeded and known everywhere"] == 95.0
    assert values(figures)["observers, of one core"] == 50.0


def test_the_others_are_compared_with_before_and_the_broken_one_is_not():
    before = Report(
        {"redis": latency(20, 80.0), "web": latency(30, 90.0), "app": latency(30, 90.0)}
    )
    during = Report({"redis": latency(20, 180.0), "web": latency(30, 190.5), "app": SILENT})
    figures = list(isolation_figures(Isolation("app", 1_000.0, 20.1, 8.5, before, during)))
    assert missed(figures) == {"stock: commit → web, during, p99"}
    assert not any("→ app" in figure.name for figure in figures)
    assert values(figures)["app complete again, from the moment it takes messages"] == 8.5
    assert {f.scenario for f in figures} == {"1,000 changes/s, app refuses for 20 s"}
