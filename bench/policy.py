"""What it takes to tell everybody of a policy edit, and what stock changes feel of it."""

import time
from contextlib import ExitStack
from dataclasses import dataclass

from bench.background import loading
from bench.catalogue import fill
from bench.observers import Report, observing
from bench.policy_edits import PolicyEdit, PolicyEdits
from bench.scenarios import PATIENCE, Bench, observed
from bench.workload import WorkloadPlan

CHANNEL = "web"
#: The warehouse of each SKU in these scenarios.
WAREHOUSES = 1
#: Units by which an edit moves the buffer, to and fro.
UNITS = 2

#: Between two edits under load, in seconds: each meets an even load.
_PAUSE_SECONDS = 1.0
_MILLION_PATIENCE = 900.0


@dataclass(frozen=True, slots=True)
class EditsMade:
    """Edits one after the other.

    Attributes:
        changes_per_second: of stock meanwhile, as asked for; 0 for none.
        report: what was seen to arrive; its `edits` hold each edit by its commit time.
    """

    changes_per_second: float
    edits: tuple[PolicyEdit, ...]
    report: Report


@dataclass(frozen=True, slots=True)
class LargeEdit:
    """One edit over a large catalogue.

    Attributes:
        fill_seconds: from the first insert until all of it was known everywhere.
        before: the same load without the edit.
        during: the load until everybody knew of the edit.
    """

    fill_seconds: float
    changes_per_second: float
    edit: PolicyEdit
    before: Report
    during: Report


def edits(bench: Bench, count: int, rate: float, skus: int = 5_000) -> EditsMade:
    """So many edits of one channel's buffer, at this rate of stock changes; 0 for none.

    The buffer is at the end what it was, if `count` is even.
    """
    bench.say(f"{count} policy edits at {rate:,.0f} changes/s")
    end = bench.backlog.end()
    changes = 0
    made: list[PolicyEdit] = []
    with ExitStack() as stack:
        policies = stack.enter_context(PolicyEdits.opened(bench.settings, PATIENCE))
        observers = stack.enter_context(observing(bench.stack.environment()))
        buffer = policies.buffer(CHANNEL)
        with ExitStack() as meanwhile:
            run = None
            if rate:
                plan = WorkloadPlan(skus=skus, warehouses=WAREHOUSES)
                run = meanwhile.enter_context(
                    loading(bench.settings.conninfo(), plan, changes_per_second=rate, duration=None)
                )
            for number in range(count):
                if run is not None and run.wait(_PAUSE_SECONDS):
                    break  # it has failed: its result says why
                made.append(policies.set_buffer(CHANNEL, buffer + UNITS * (1 - number % 2)))
                bench.tick(f"{len(made)} of {count} edits")
            if run is not None:
                run.stop()
                changes = run.result().changes
        bench.until_drained(end + changes)
        return EditsMade(rate, tuple(made), observers.finish())


def prepare(bench: Bench, rate: float, seconds: float, skus: int = 5_000) -> None:
    """Work for JVMs that are new, and a first edit to and fro."""
    observed(bench, WorkloadPlan(skus=skus, warehouses=WAREHOUSES), rate, seconds)
    edits(bench, 2, 0)


def fill_large(bench: Bench, skus: int) -> float:
    """Seed a large catalogue and wait until it is known everywhere; the seconds it took."""
    bench.say(f"seeding {skus:,} SKUs")
    started = time.monotonic()
    fill(bench.settings, bench.backlog, skus, WAREHOUSES, _MILLION_PATIENCE, bench.show)
    return time.monotonic() - started


def large_edit(bench: Bench, fill_seconds: float, rate: float, seconds: float) -> LargeEdit:
    """One edit at an even load, which ran for so many seconds before; the edit is taken back.

    `fill_seconds` is what `fill_large` returned.
    """
    plan = WorkloadPlan(warehouses=WAREHOUSES)
    before = observed(bench, plan, rate, seconds)
    bench.say(f"one policy edit at {rate:,.0f} changes/s")
    end = bench.backlog.end()
    with PolicyEdits.opened(bench.settings, _MILLION_PATIENCE) as policies:
        buffer = policies.buffer(CHANNEL)
        with observing(bench.stack.environment()) as observers:
            with loading(
                bench.settings.conninfo(), plan, changes_per_second=rate, duration=None
            ) as run:
                edit = policies.set_buffer(CHANNEL, buffer + UNITS)
                run.stop()
                changes = run.result().changes
            bench.until_drained(end + changes)
            during = observers.finish()
        bench.say("taking the edit back")
        policies.set_buffer(CHANNEL, buffer)
    return LargeEdit(fill_seconds, rate, edit, before.report, during)
