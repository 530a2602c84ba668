"""What `stockwire bench` measures. Every scenario starts and ends with nothing left to do.

Latencies run from the commit in Postgres to the arrival at a reader (`bench.observers`). Workers
commit their offsets once a second, so an end that is seen there is up to a second late.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.background import loading
from bench.backlog import Backlog, Position
from bench.load import bulk_update
from bench.memory import Peaks, resident, sampled
from bench.observers import Report, observing
from bench.workload import WorkloadPlan
from compose.embedded.stack import Stack
from inventory.settings import Settings

WAREHOUSES = 3
#: Enough for a transaction over 100,000 rows.
SKUS = 34_000
#: Seconds in which something must have moved.
PATIENCE = 120.0

_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Bench:
    """A running stack with a catalogue: `SKUS` in `WAREHOUSES`, unless a scenario says otherwise.

    Attributes:
        say: told of each step.
        tick: told several times a second how far a step is.
    """

    settings: Settings
    stack: Stack
    backlog: Backlog
    say: Callable[[str], None]
    tick: Callable[[str], None]

    def until_drained(self, end: int) -> None:
        """Wait until the workers have confirmed everything up to `end`."""
        self.backlog.until_drained(end, PATIENCE, self.show)

    def show(self, position: Position) -> None:
        """Say how much is left."""
        self.tick(f"{position.lag:,} changes to go")


@dataclass(frozen=True, slots=True)
class Steady:
    """An even load. `changes_per_second` is the rate that was reached."""

    changes_per_second: float
    report: Report


@dataclass(frozen=True, slots=True)
class Drained:
    """A backlog worked off.

    Attributes:
        changes: how many.
        seconds: from the start of the worker processes to nothing left.
        rate: changes/s through both workers at once, from the first offset that moved.
        rates: the same for each worker by itself, by consumer group.
    """

    changes: int
    seconds: float
    rate: float
    rates: dict[str, float]


@dataclass(frozen=True, slots=True)
class Bulk:
    """One large transaction. `peaks` is the memory of each worker, in bytes."""

    rows: int
    report: Report
    peaks: Peaks


def steady(bench: Bench, rate: float, seconds: float, skus: int = 5_000) -> Steady:
    """Business at an even rate."""
    return observed(bench, WorkloadPlan(skus=skus, warehouses=WAREHOUSES), rate, seconds)


def observed(bench: Bench, plan: WorkloadPlan, rate: float, seconds: float) -> Steady:
    """A plan at an even rate, and how long its changes take to arrive."""
    bench.say(f"{rate:,.0f} changes/s for {seconds:.0f} s")
    end = bench.backlog.end()
    with observing(bench.stack.environment()) as observers:
        with loading(
            bench.settings.conninfo(), plan, changes_per_second=rate, duration=seconds
        ) as run:
            load = run.result()
        bench.until_drained(end + load.changes)
        return Steady(load.changes_per_second, observers.finish())


def drain(bench: Bench, changes: int) -> Drained:
    """A backlog that has built up while both workers were down."""
    bench.say("stopping the workers")
    bench.stack.stop_workers()
    start = bench.backlog.end()
    rows = SKUS * WAREHOUSES
    committed = 0
    while committed < changes:
        bench.say(f"committed {committed:,} of {changes:,} changes")
        committed += bulk_update(bench.settings.conninfo(), min(rows, changes - committed))
    bench.say("waiting until Debezium has captured them")
    while (captured := bench.backlog.end() - start) < committed:
        bench.tick(f"Debezium has captured {captured:,} of {committed:,} changes")
        time.sleep(_SAMPLE_SECONDS)
    bench.say("starting the workers")
    positions: list[tuple[float, Position]] = []

    def look(position: Position) -> None:
        positions.append((time.monotonic(), position))
        bench.show(position)

    started = time.monotonic()
    look(bench.backlog.position())
    bench.stack.start_workers()
    bench.backlog.until_drained(start + committed, PATIENCE, look)
    return drained(committed, started, positions)


def drained(changes: int, started: float, positions: Sequence[tuple[float, Position]]) -> Drained:
    """What was seen of a drain says of its speed; the last position has no lag left.

    What the first look at a moved offset found done does not count: nobody knows how long it took.
    """
    lags = [(at, position.lags) for at, position in positions]
    end = lags[-1][0]
    rates = {}
    for group in lags[0][1]:
        own = [(at, lag[group]) for at, lag in lags]
        rates[group] = _rate(own, started, next(at for at, lag in own if lag <= 0))
    # Both at once: what neither had confirmed when the first one moved, until both are done.
    rate = _rate([(at, min(lag.values())) for at, lag in lags], started, end)
    return Drained(changes, end - started, rate, rates)


def _rate(lags: Sequence[tuple[float, int]], started: float, end: float) -> float:
    """Changes/s from the first fall of a lag, given as (time, lag), to the end."""
    whole = lags[0][1]
    moved, left = next((at, lag) for at, lag in lags if lag < whole)
    return left / (end - moved) if end > moved else whole / (end - started)


def bulk(bench: Bench, rows: int = 100_000) -> Bulk:
    """One transaction that changes many rows."""
    bench.say(f"one transaction over {rows:,} rows")
    pids = bench.stack.worker_pids()
    end = bench.backlog.end()
    with (
        observing(bench.stack.environment()) as observers,
        sampled(lambda: resident(pids), _SAMPLE_SECONDS) as peaks,
    ):
        changed = bulk_update(bench.settings.conninfo(), rows)
        bench.until_drained(end + changed)
        return Bulk(changed, observers.finish(), peaks)
