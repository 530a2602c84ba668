"""From what the policy and isolation scenarios measured to figures with their targets."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from bench.arrivals import REDIS
from bench.figures import Figure
from bench.isolation import Isolation
from bench.latencies import LatencySummary
from bench.policy import CHANNEL, EditsMade, LargeEdit

#: By so much, in ms, may the p99 of stock changes rise while something else goes on.
_MORE_MS = 100.0


def edits_figures(result: EditsMade) -> Iterator[Figure]:
    """Everybody knows of each edit within a second; without load, each SKU is seen to arrive."""
    skus = max(edit.skus for edit in result.edits)
    load = (
        f"at {result.changes_per_second:,.0f} changes/s" if result.changes_per_second else "alone"
    )
    scenario = f"{len(result.edits)} policy edits of {skus:,} SKUs, {load}"
    # Of SKUs that stock has changed since the edit, its own messages say less than the marks do.
    for place in (REDIS, CHANNEL):
        seen = [result.report.edits.get(e.committed_us, {}).get(place) for e in result.edits]
        name = f"commit → all of it in {_title(place)}"
        slowest = [None if summary is None else summary.max for summary in seen]
        yield from _spread(scenario, name, slowest)
        fewest = min(0 if summary is None else summary.count for summary in seen)
        whole = None if result.changes_per_second else skus
        yield Figure(scenario, f"SKUs seen in {_title(place)}, fewest", fewest, "", at_least=whole)
    marked = [edit.whole_ms for edit in result.edits]
    yield from _spread(scenario, "commit → all of it acknowledged", marked)
    for place, latency in result.report.latencies.items():
        if latency.count:
            yield Figure(scenario, f"stock: commit → {_title(place)}, p99", latency.p99, "ms")


def large_edit_figures(result: LargeEdit) -> Iterator[Figure]:
    """8,000 SKUs/s, and stock changes not delayed by more than 100 ms."""
    edit = result.edit
    seconds = edit.whole_ms / 1000
    scenario = (
        f"one policy edit of {edit.skus:,} SKUs, at {result.changes_per_second:,.0f} changes/s"
    )
    yield Figure(scenario, "seeded and known everywhere", result.fill_seconds, "s")
    yield Figure(scenario, "commit → all of it acknowledged", seconds, "s")
    yield Figure(scenario, "computed anew", edit.skus / seconds, "SKUs/s", at_least=8_000)
    places = (REDIS, CHANNEL)
    yield from _compared(scenario, places, result.before.latencies, result.during.latencies)
    yield Figure(scenario, "observers, of one core", 100 * result.during.cpu, "%")


def isolation_figures(result: Isolation) -> Iterator[Figure]:
    """The others are told as fast as before, within 100 ms."""
    scenario = (
        f"{result.changes_per_second:,.0f} changes/s, {result.channel} refuses for "
        f"{result.refused_seconds:.0f} s"
    )
    others = [place for place in result.before.latencies if place != result.channel]
    yield from _compared(scenario, others, result.before.latencies, result.during.latencies)
    name = f"{result.channel} complete again, from the moment it takes messages"
    yield Figure(scenario, name, result.healed_seconds, "s")


def _spread(scenario: str, name: str, readings: Sequence[float | None]) -> Iterator[Figure]:
    """The median and the slowest, which has a second; nothing where a reading is missing."""
    known = [reading for reading in readings if reading is not None]
    whole = len(known) == len(readings)
    yield Figure(scenario, f"{name}, p50", median(known) if whole else None, "ms")
    yield Figure(scenario, f"{name}, max", max(known) if whole else None, "ms", at_most=1_000)


def _compared(
    scenario: str,
    places: Sequence[str],
    before: Mapping[str, LatencySummary],
    during: Mapping[str, LatencySummary],
) -> Iterator[Figure]:
    """The latencies of stock changes before and during something; the p99 has a target."""
    for place in places:
        name = f"stock: commit → {_title(place)}"
        for when, latencies in (("before", before), ("during", during)):
            yield Figure(scenario, f"{name}, {when}, p50", latencies[place].p50, "ms")
        p99 = before[place].p99
        limit = None if p99 is None else p99 + _MORE_MS
        yield Figure(scenario, f"{name}, before, p99", p99, "ms")
        yield Figure(scenario, f"{name}, during, p99", during[place].p99, "ms", at_most=limit)


def _title(place: str) -> str:
    return "Redis" if place == REDIS else place
