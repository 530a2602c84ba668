"""`stockwire bench`: latency, drain rate and memory, on a stack of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from audit.auditor import Auditor
from bench.backlog import Backlog
from bench.catalogue import fill
from bench.figures import LATEST, Figure, markdown, write_json
from bench.machine import describe
from bench.memory import sampled
from bench.scenarios import PATIENCE, SKUS, WAREHOUSES, Bench, bulk, drain, steady
from bench.targets import bulk_figures, drain_figures, memory_figures, steady_figures
from cli.bringup import Progress, bring_up
from compose.embedded.places import CHECKOUT
from compose.embedded.processes import resident_bytes
from compose.embedded.stack import Stack, silent
from inventory.settings import PASSFILE, Settings, load_settings

_DIRECTORY = CHECKOUT / ".stack-bench"
#: Reading shared memory is work too: not more often than needed.
_MEMORY_SECONDS = 5.0


class Scenario(StrEnum):
    """What can be measured by itself."""

    STEADY = "steady"
    DRAIN = "drain"
    BULK = "bulk"


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
) -> None:
    """Measure latency, drain rate and memory; print a table and write bench/results/latest.json.

    Starts a new stack in .stack-bench on ports of its own, and removes it at the end.
    """
    chosen = only or list(Scenario)
    console = Console(stderr=True, highlight=False)
    settings = bench_settings()
    figures: list[Figure] = []
    try:
        with _new_stack(settings, console) as stack, Progress(console) as say:
            tick = say if console.is_terminal else silent
            run = Bench(settings, stack, Backlog(settings.kafka_bootstrap), say, tick)
            say(f"seeding {SKUS * WAREHOUSES:,} rows")
            fill(settings, run.backlog, SKUS, WAREHOUSES, PATIENCE)
            memory = _memory_of(stack)
            idle = memory()
            if Scenario.STEADY in chosen:
                # New JVMs compile for about a minute, on the cores that everything shares.
                cold = steady(run, rate, warm_up)
                figures += steady_figures(
                    cold, f"first {warm_up:.0f} s after a start", targets=False
                )
                warm = steady(run, rate, seconds)
                figures += steady_figures(warm, f"{seconds:.0f} s after that", targets=True)
            # Only now: counting a JVM's pages holds it up, which an even load would show.
            with sampled(memory, _MEMORY_SECONDS) as peaks:
                if Scenario.BULK in chosen:
                    figures += bulk_figures(bulk(run))
                if Scenario.DRAIN in chosen:
                    figures += drain_figures(drain(run, changes))
            figures += memory_figures(idle, peaks)
            say("comparing every row")
            figures.append(_drift(settings))
            machine = describe(settings)
    except KeyboardInterrupt:
        console.print("Interrupted; nothing was written.")
        raise typer.Exit(130) from None
    write_json(figures, machine, LATEST)
    print(markdown(figures, machine))


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
        connect_url="http://127.0.0.1:31083",
    )


@contextmanager
def _new_stack(settings: Settings, console: Console) -> Iterator[Stack]:
    """A stack without any history; it is removed again."""
    stack = Stack(settings)
    stack.reset()
    try:
        yield bring_up(settings, console)
    finally:
        stack.reset()


def _memory_of(stack: Stack) -> Callable[[], dict[str, int]]:
    """What tells the bytes of each part; workers are looked up anew, a scenario restarts them."""
    servers = {part.part: part.pid for part in stack.status() if part.pid and part.port}

    def read() -> dict[str, int]:
        pids = servers | stack.worker_pids()
        return {part: resident_bytes(pid) for part, pid in pids.items()}

    return read


def _drift(settings: Settings) -> Figure:
    with Auditor.open(
        settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap
    ) as auditor:
        report = auditor.audit_until_settled(PATIENCE)
    return Figure("all rows afterwards", "drift", report.drift, "rows", at_most=0)
