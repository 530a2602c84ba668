"""The histogram behind every latency that is printed."""

from dataclasses import asdict
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from bench.latencies import Latencies, LatencySummary


def recorded(values):
    latencies = Latencies()
    for value in values:
        latencies.record(value)
    return latencies


def test_without_a_reading_there_is_no_latency():
    assert Latencies().summary() == LatencySummary(0, None, None, None, None, None)
    assert Latencies().percentile(0.5) is None


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=300),
    st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 1.0]),
)
def test_a_percentile_is_never_below_the_truth_and_at_most_one_percent_above(values, part):
    truth = sorted(values)[max(0, ceil(part * len(values)) - 1)]
    reading = recorded(values).percentile(part)
    assert truth <= reading <= truth * 1.01


@given(st.lists(st.integers(-5, 10**12), min_size=1))
def test_the_maximum_is_exact(values):
    assert recorded(values).percentile(1.0) == max(0, *values)


def test_what_a_stepped_clock_makes_negative_counts_as_zero():
    assert recorded([-7]).percentile(1.0) == 0


def test_a_reading_beyond_the_range_is_still_counted():
    latencies = recorded([1 << 50])
    assert latencies.count == 1
    assert latencies.percentile(0.5) == 1 << 40


def test_a_summary_is_in_milliseconds_and_survives_json():
    summary = recorded([1000] * 99 + [250_000]).summary()
    assert summary.count == 100
    assert abs(summary.p50 - 1) <= 0.01
    assert summary.p99 < 1.01
    assert summary.max == 250.0
    assert LatencySummary.from_json(asdict(summary)) == summary
