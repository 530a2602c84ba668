"""How long a rebuild of a large catalogue takes while it sells, and what live changes feel."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.arrivals import REDIS
from bench.background import loading
from bench.figures import Figure
from bench.observers import Report, observing
from bench.scenarios import WAREHOUSES, Bench
from bench.workload import WorkloadPlan
from rebuild.options import Options, Result, Stage
from rebuild.run import Rebuild

#: Issue 6: a million rows in a minute, on two cores, with live changes under a second.
_ROWS, _SECONDS, _LIVE_MS = 1_000_000, 60.0, 1_000.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """One rebuild, and the latencies of the changes that were committed during it."""

    changes_per_second: float
    result: Result
    during: Report


def rebuilt(bench: Bench, rate: float, *, shadow: bool) -> Rebuilt:
    """Rebuild from Kafka at an even load."""
    bench.say(f"rebuild {'in a shadow' if shadow else 'in place'} at {rate:,.0f} changes/s")
    end = bench.backlog.end()

    def show(stage: Stage) -> None:
        bench.tick(f"{stage.name}: {stage.done:,} done")

    with observing(bench.stack.environment()) as observers:
        plan = WorkloadPlan(warehouses=WAREHOUSES)
        with loading(
            bench.settings.conninfo(), plan, changes_per_second=rate, duration=None
        ) as run:
            options = Options(shadow=shadow)
            result = Rebuild(bench.settings, options, lambda _: None, show).run()
            run.stop()
            changes = run.result().changes
        bench.until_drained(end + changes)
        return Rebuilt(rate, result, observers.finish())


def rebuild_figures(rebuilt: Rebuilt) -> Iterator[Figure]:
    """A million rows in a minute; live changes under a second meanwhile."""
    result = rebuilt.result
    mode = "in a shadow" if result.shadow else "in place"
    records = result.counts.records
    scenario = f"rebuild {mode}, at {rebuilt.changes_per_second:,.0f} changes/s"
    seconds = sum(result.seconds.values())
    yield Figure(scenario, "records read", records, "")
    for stage, taken in result.seconds.items():
        yield Figure(scenario, stage, taken, "s")
    ceiling = _SECONDS * max(1.0, records / _ROWS)
    yield Figure(scenario, "all of it", seconds, "s", at_most=ceiling)
    yield Figure(scenario, "records/s", records / seconds, "records/s")
    for place, latency in rebuilt.during.latencies.items():
        if latency.count:
            name = "Redis" if place == REDIS else place
            yield Figure(
                scenario, f"live: commit → {name}, p99", latency.p99, "ms", at_most=_LIVE_MS
            )
