"""From what the scenarios measured to figures with the targets that the project has set itself."""

from collections.abc import Iterator, Mapping

from bench.arrivals import REDIS
from bench.figures import Figure
from bench.memory import Peaks
from bench.scenarios import Bulk, Drained, Steady

_MB = 2**20


def steady_figures(result: Steady, when: str, *, targets: bool) -> Iterator[Figure]:
    """Redis: p50 25 ms, p99 100 ms; each channel: p99 150 ms; `when` tells two runs apart."""
    scenario = f"{result.changes_per_second:,.0f} changes/s, {when}"
    for place, latency in result.report.latencies.items():
        in_redis = place == REDIS
        name = f"commit → {'Redis' if in_redis else place}"
        p50 = 25 if targets and in_redis else None
        p99 = (100 if in_redis else 150) if targets else None
        yield Figure(scenario, f"{name}, p50", latency.p50, "ms", at_most=p50)
        yield Figure(scenario, f"{name}, p90", latency.p90, "ms")
        yield Figure(scenario, f"{name}, p99", latency.p99, "ms", at_most=p99)
        yield Figure(scenario, f"{name}, p99.9", latency.p999, "ms")
        yield Figure(scenario, f"{name}, max", latency.max, "ms")
    redis = result.report.latencies[REDIS].count
    overtaken = result.report.overtaken
    share = 100 * overtaken / max(1, redis + overtaken)
    yield Figure(scenario, "writes overtaken before they were read, not in p50 to max", share, "%")
    yield Figure(scenario, "observers, of one core", 100 * result.report.cpu, "%")


def drain_figures(result: Drained) -> Iterator[Figure]:
    """12,000 changes/s through both workers at once."""
    scenario = f"backlog of {result.changes:,}"
    yield Figure(scenario, "both workers at once", result.rate, "changes/s", at_least=12_000)
    for group, rate in result.rates.items():
        yield Figure(scenario, group, rate, "changes/s")
    yield Figure(scenario, "from the workers' start to the end", result.seconds, "s")


def bulk_figures(result: Bulk) -> Iterator[Figure]:
    """Each worker below 500 MB."""
    scenario = f"one transaction, {result.rows:,} rows"
    for place, latency in result.report.latencies.items():
        name = "Redis" if place == REDIS else place
        whole = None if latency.max is None else latency.max / 1000
        yield Figure(scenario, f"commit → all of it in {name}", whole, "s")
    for worker, peak in result.peaks.each.items():
        yield Figure(scenario, f"{worker} worker, peak RSS", peak / _MB, "MB", at_most=500)


def memory_figures(idle: Mapping[str, int], peaks: Peaks) -> Iterator[Figure]:
    """The whole stack below 2.5 GB; `idle` and `peaks` in bytes, pages that are shared once."""
    for name, size in idle.items():
        yield Figure("memory, idle", name, size / _MB, "MB")
    yield Figure("memory, idle", "whole stack", sum(idle.values()) / _MB, "MB", at_most=2_560)
    for name, size in peaks.each.items():
        yield Figure("memory, peak of all scenarios", name, size / _MB, "MB")
    yield Figure(
        "memory, peak of all scenarios",
        "whole stack at one moment",
        peaks.together / _MB,
        "MB",
        at_most=2_560,
    )
