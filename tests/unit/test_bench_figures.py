"""From readings to figures beside their targets."""

import json

import pytest

from bench.backlog import Position
from bench.figures import Figure, markdown, write_json
from bench.latencies import Latencies
from bench.memory import Peaks, sampled
from bench.observers import Report
from bench.scenarios import Steady, drained
from bench.targets import memory_figures, steady_figures
from cli.bench import Scenario, bench_settings, scenarios
from compose.embedded.places import places
from inventory.settings import Settings


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("s", "n", 25.0, "ms", at_most=25), True),
        (Figure("s", "n", 25.1, "ms", at_most=25), False),
        (Figure("s", "n", 12_000, "changes/s", at_least=12_000), True),
        (Figure("s", "n", 11_999, "changes/s", at_least=12_000), False),
        (Figure("s", "n", None, "ms", at_most=25), False),
        (Figure("s", "n", 7, "ms"), None),
    ],
)
def test_a_target_is_met_or_not(figure, met):
    assert figure.met is met


def test_a_table_shows_the_target_beside_the_figure():
    figures = [
        Figure("1,000 changes/s", "p99", 31.25, "ms", at_most=100),
        Figure("backlog", "rate", 11_000.4, "changes/s", at_least=12_000),
    ]
    assert markdown(figures, {"cores": "2", "Redis": "6.2"}).splitlines()[2:] == [
        "| 1,000 changes/s | p99 | 31.2 ms | ≤ 100 ms | met |",
        "| backlog | rate | 11,000 changes/s | ≥ 12,000 changes/s | **missed** |",
        "",
        "cores 2, Redis 6.2.",
    ]


def test_figures_are_kept_as_json(tmp_path):
    path = tmp_path / "results" / "latest.json"
    write_json([Figure("s", "p99", 31.2, "ms", at_most=100)], {"cores": "2"}, path)
    content = json.loads(path.read_text())
    assert content["machine"] == {"cores": "2"}
    assert content["figures"][0]["value"] == 31.2
    assert content["figures"][0]["met"] is True


def positions(*seen):
    """(time, availability confirmed, ledger confirmed) of a topic with 1,000 records."""
    return [(at, Position(1000, {"a": a, "l": b})) for at, a, b in seen]


def test_a_drain_is_timed_from_the_first_offset_that_moves():
    result = drained(
        1000,
        0.0,
        positions(
            (0, 0, 0), (5, 0, 0), (6, 200, 0), (7, 600, 500), (8, 1000, 500), (10, 1000, 1000)
        ),
    )
    assert result.seconds == 10
    assert result.rate == 800 / 4  # 200 were done at second 6; the last is done at second 10
    assert result.rates == {"a": 800 / 2, "l": 500 / 3}


def test_a_drain_that_is_over_at_the_first_look_is_timed_from_its_start():
    result = drained(1000, 0.0, positions((0, 0, 0), (4, 1000, 1000)))
    assert result.rate == 250


def test_peaks_are_of_each_and_of_all_at_one_moment():
    peaks = Peaks()
    peaks.add({"a": 10, "b": 1})
    peaks.add({"a": 2, "b": 5})
    assert peaks.each == {"a": 10, "b": 5}
    assert peaks.together == 11


def test_memory_is_read_at_least_once():
    with sampled(lambda: {"a": 7}, every=60) as peaks:
        pass
    assert peaks.each == {"a": 7}


def test_every_place_and_every_target_is_among_the_figures():
    latencies = Latencies()
    latencies.record(20_000)
    report = Report({"redis": latencies.summary(), "web": latencies.summary()}, overtaken=1)
    figures = list(steady_figures(Steady(1000.0, report), "warm", targets=True))
    assert {f.name: f.at_most for f in figures if f.at_most} == {
        "commit → Redis, p50": 25,
        "commit → Redis, p99": 100,
        "commit → web, p99": 150,
    }
    assert next(f for f in figures if "overtaken" in f.name).value == 50
    memory = list(memory_figures({"kafka": 400 << 20, "redis": 8 << 20}, Peaks({}, 3 << 30)))
    whole = {f.scenario: (f.value, f.met) for f in memory if f.at_most}
    assert list(whole.values()) == [(408, True), (3072, False)]


def test_a_benchmark_leaves_other_stacks_alone():
    ours, theirs = bench_settings(), Settings()
    assert ours.stack_dir != theirs.stack_dir
    for name in ("redis_url", "kafka_bootstrap", "connect_url"):
        assert getattr(ours, name) != getattr(theirs, name)
    assert ours.conninfo() != theirs.conninfo()
    assert str(ours.stack_dir) in ours.conninfo()
    # Refuses ports that would clash, those of our own processes included.
    assert places(ours).ports.connect != places(theirs).ports.connect


def test_what_takes_many_minutes_is_measured_on_request_only():
    slow = {Scenario.POLICY_MILLION, Scenario.AUDIT, Scenario.REBUILD}
    assert scenarios(None) == set(Scenario) - slow
    assert scenarios([Scenario.POLICY_MILLION]) == {Scenario.POLICY_MILLION}
