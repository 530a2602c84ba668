"""`stockwire bench`: latency, drain rate, memory and policy edits, on stacks of its own."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

import typer
from rich.console import Console

from audit.auditor import Auditor
from bench.audit import audit_figures, audit_pass, caught_up
from bench.backlog import Backlog
from bench.catalogue import fill
from bench.figures import LATEST, Figure, markdown, write_json
from bench.isolation import isolation
from bench.machine import describe
from bench.memory import sampled
from bench.policy import WAREHOUSES as POLICY_WAREHOUSES
from bench.policy import edits, fill_large, large_edit, prepare
from bench.policy_targets import edits_figures, isolation_figures, large_edit_figures
from bench.rebuild import rebuild_figures, rebuilt
from bench.reservations import Sizes as Sales
from bench.reservations import reservation_figures
from bench.scenarios import PATIENCE, SKUS, WAREHOUSES, Bench, bulk, drain, steady
from bench.targets import bulk_figures, drain_figures, memory_figures, steady_figures
from cli.bringup import Progress, bring_up
from cli.quiet import quietly
from compose.embedded.places import CHECKOUT
from compose.embedded.processes import resident_bytes
from compose.embedded.stack import Stack, silent
from inventory.settings import PASSFILE, Settings, load_settings
from sql.migrate import migrate

_Part: TypeAlias = Callable[[Bench], Iterator[Figure]]

_DIRECTORY = CHECKOUT / ".stack-bench"
#: Reading shared memory is work too: not more often than needed.
_MEMORY_SECONDS = 5.0

#: How long one channel's topic refuses messages.
_REFUSED_SECONDS = 20.0
_POLICY_SKUS = 10_000
_EDITS = 10
#: Changes per second beside a large edit: business goes on, and most of the machine is free.
_SLOW_RATE = 200.0


class Scenario(StrEnum):
    """What can be measured by itself."""

    STEADY = "steady"
    ISOLATION = "isolation"
    BULK = "bulk"
    DRAIN = "drain"
    POLICY = "policy"
    POLICY_MILLION = "policy-million"
    AUDIT = "audit"
    REBUILD = "rebuild"
    RESERVATIONS = "reservations"


#: These share a stack; each of the others has a catalogue, and so a stack, of its own.
_TOGETHER = frozenset({Scenario.STEADY, Scenario.ISOLATION, Scenario.BULK, Scenario.DRAIN})
#: Takes many minutes.
_ON_REQUEST = frozenset({Scenario.POLICY_MILLION, Scenario.AUDIT, Scenario.REBUILD})


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: see the options of `bench`."""

    seconds: float
    warm_up: float
    rate: float
    changes: int
    million: int


def bench(
    only: Annotated[
        list[Scenario] | None, typer.Option(help="Measure only this; may be repeated.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=5, help="How long the even load lasts.")] = 60,
    warm_up: Annotated[
        float, typer.Option(min=5, help="Seconds of it before that, shown by themselves.")
    ] = 60,
    rate: Annotated[float, typer.Option(min=1, help="Changes per second of it.")] = 1_000,
    changes: Annotated[int, typer.Option(min=1_000, help="Size of the backlog.")] = 300_000,
    million: Annotated[
        int, typer.Option(min=1_000, help="SKUs of policy-million, rows of audit, rebuild.")
    ] = 1_000_000,
) -> None:
    """Measure; print a table and write bench/results/latest.json.

    Everything but policy-million, audit and rebuild, which take many minutes: ask for them with
    --only.
    Starts new stacks in .stack-bench on ports of their own, and removes them at the end.
    """
    chosen = scenarios(only)
    sizes = Sizes(seconds, warm_up, rate, changes, million)
    console = Console(stderr=True, highlight=False)
    parts: list[_Part] = []
    if together := _TOGETHER.intersection(chosen):
        parts.append(lambda run: _general(run, together, sizes))
    if Scenario.POLICY in chosen:
        parts.append(lambda run: _policy(run, sizes))
    if Scenario.POLICY_MILLION in chosen:
        parts.append(lambda run: _policy_million(run, sizes))
    if Scenario.AUDIT in chosen:
        parts.append(lambda run: _audit(run, sizes))
    if Scenario.REBUILD in chosen:
        parts.append(lambda run: _rebuild(run, sizes))
    if Scenario.RESERVATIONS in chosen:
        parts.append(_reservations)
    figures: list[Figure] = []
    machine: dict[str, str] = {}
    settings = bench_settings()
    try:
        for part in parts:
            captured = part is not _reservations
            with _new_stack(settings, console, captured) as stack, Progress(console) as say:
                tick = say if console.is_terminal else silent
                run = Bench(settings, stack, Backlog(settings.kafka_bootstrap), say, tick)
                figures += part(run)
                machine = describe(settings)
    except KeyboardInterrupt:
        console.print("Interrupted; nothing was written.")
        raise typer.Exit(130) from None
    write_json(figures, machine, LATEST)
    print(markdown(figures, machine))


def scenarios(only: Collection[Scenario] | None) -> frozenset[Scenario]:
    """What is measured: these, or without any all but those that take many minutes."""
    return frozenset(only) if only else frozenset(Scenario) - _ON_REQUEST


def _general(run: Bench, chosen: Collection[Scenario], sizes: Sizes) -> Iterator[Figure]:
    """An even load first, before anything large has left its traces."""
    run.say(f"seeding {SKUS * WAREHOUSES:,} rows")
    fill(run.settings, run.backlog, SKUS, WAREHOUSES, PATIENCE)
    memory = _memory_of(run.stack)
    idle = memory()
    if Scenario.STEADY in chosen:
        # New JVMs compile for about a minute, on the cores that everything shares.
        cold = steady(run, sizes.rate, sizes.warm_up)
        when = f"first {sizes.warm_up:.0f} s after a start"
        yield from steady_figures(cold, when, targets=False)
        warm = steady(run, sizes.rate, sizes.seconds)
        yield from steady_figures(warm, f"{sizes.seconds:.0f} s after that", targets=True)
    if Scenario.ISOLATION in chosen:
        if Scenario.STEADY not in chosen:
            steady(run, sizes.rate, sizes.warm_up)
        yield from isolation_figures(isolation(run, sizes.rate, _REFUSED_SECONDS))
    # Only now: counting a JVM's pages holds it up, which an even load would show.
    with sampled(memory, _MEMORY_SECONDS) as peaks:
        if Scenario.BULK in chosen:
            yield from bulk_figures(bulk(run))
        if Scenario.DRAIN in chosen:
            yield from drain_figures(drain(run, sizes.changes))
    yield from memory_figures(idle, peaks)
    yield _drift(run, "all rows afterwards")


def _policy(run: Bench, sizes: Sizes) -> Iterator[Figure]:
    run.say(f"seeding {_POLICY_SKUS:,} SKUs")
    fill(run.settings, run.backlog, _POLICY_SKUS, POLICY_WAREHOUSES, PATIENCE)
    prepare(run, sizes.rate, sizes.warm_up)
    yield from edits_figures(edits(run, _EDITS, 0))
    yield from edits_figures(edits(run, _EDITS, sizes.rate))
    yield _drift(run, "all rows after the policy edits")


def _policy_million(run: Bench, sizes: Sizes) -> Iterator[Figure]:
    filled = fill_large(run, sizes.million)
    yield from large_edit_figures(large_edit(run, filled, _SLOW_RATE, sizes.seconds))
    yield _drift(run, "all rows after the large edit")


def _rebuild(run: Bench, sizes: Sizes) -> Iterator[Figure]:
    rows = _fill_rows(run, sizes.million)
    run.say("waiting for the auditor, which reads what the seeding has told")
    caught_up(run, rows)
    yield from rebuild_figures(rebuilt(run, _SLOW_RATE, shadow=True))
    yield from rebuild_figures(rebuilt(run, _SLOW_RATE, shadow=False))
    yield _drift(run, "all rows after the rebuilds")


def _audit(run: Bench, sizes: Sizes) -> Iterator[Figure]:
    rows = _fill_rows(run, sizes.million)
    run.say("waiting for a whole pass of the auditor")
    yield from audit_figures(audit_pass(run, rows))


def _reservations(run: Bench) -> Iterator[Figure]:
    """With nothing captured meanwhile: Postgres and Redis are measured, and the way to them."""
    settings = run.settings
    with quietly():
        yield from reservation_figures(
            settings.conninfo(), str(settings.redis_url), Sales(), run.say
        )


def _fill_rows(run: Bench, rows: int) -> int:
    """A catalogue of so many rows in all warehouses, or a few more; how many there are."""
    skus = -(-rows // WAREHOUSES)
    run.say(f"seeding {skus * WAREHOUSES:,} rows")
    fill(run.settings, run.backlog, skus, WAREHOUSES, PATIENCE)
    return skus * WAREHOUSES


def bench_settings() -> Settings:
    """Where the stack of the benchmark is; other stacks are left alone.

    Its ports are below 32768: from there on, a client may hold any of them for a while.
    """
    return load_settings(
        stack_dir=_DIRECTORY,
        postgres_dsn=(
            f"postgresql://stockwire_app@127.0.0.1:31432/stockwire?passfile={_DIRECTORY / PASSFILE}"
        ),
        redis_url="redis://127.0.0.1:31379/0",
        kafka_bootstrap="127.0.0.1:31092",
        connect_url="http://127.0.0.1:31073",
    )


@contextmanager
def _new_stack(settings: Settings, console: Console, captured: bool) -> Iterator[Stack]:
    """A stack without any history, whole or with the servers alone; it is removed again."""
    stack = Stack(settings)
    stack.reset()
    try:
        if captured:
            yield bring_up(settings, console)
        else:
            stack.install(console)
            stack.start_servers()
            migrate(settings.conninfo(settings.postgres_admin_user))
            yield stack
    finally:
        stack.reset()


def _memory_of(stack: Stack) -> Callable[[], dict[str, int]]:
    """What tells the bytes of each part; workers are looked up anew, a scenario restarts them."""
    servers = {part.part: part.pid for part in stack.status() if part.pid and part.port}

    def read() -> dict[str, int]:
        pids = servers | stack.worker_pids()
        return {part: resident_bytes(pid) for part, pid in pids.items()}

    return read


def _drift(run: Bench, scenario: str) -> Figure:
    run.say("comparing every row")
    settings = run.settings
    with Auditor.open(
        settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap
    ) as auditor:
        report = auditor.audit_until_settled(PATIENCE)
    return Figure(scenario, "drift", report.drift, "rows", at_most=0)
