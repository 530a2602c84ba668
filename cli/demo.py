"""`stockwire demo`: start everything, sell for a while, watch it arrive, compare every row."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.live import Live

from audit.auditor import Auditor
from audit.report import AuditReport
from bench.arrivals import REDIS
from bench.background import loading
from bench.backlog import Backlog, Position
from bench.catalogue import fill
from bench.lane import LoadReport
from bench.latencies import LatencySummary
from bench.load import open_sale
from bench.observers import Report, observing
from bench.oversold import Overpromised, watching_oversold
from bench.policy_edits import PolicyEdit
from bench.sellers import Through
from bench.workload import WorkloadPlan
from cli.bringup import Progress, bring_up
from cli.demo_policy import edit_meanwhile
from cli.demo_view import Frame, edit_line, latencies_line, line, orders_line, table
from inventory.settings import Settings, load_settings
from projections.reader import AvailabilityReader
from reservations.trying import log_no_retries
from stockwire_client.names import availability_key

WAREHOUSES = 3

#: Changed rows per second. Through reservations each costs the load and Postgres about two and a
#: half times what it costs as a bare statement, and two cores carry all of it and the pipeline.
RATE = 500.0

#: Part of all lines that want one SKU.
HOT_SHARE = 0.05

#: Units of it in each warehouse, per change: towards the end it is sold out.
HOT_UNITS = 0.031

#: Above this p99, in ms, the demo has failed.
P99_LIMIT = 1_000.0

#: Lanes of the load, each with a connection: one that waits for a commit leaves the others.
LANES = 4

#: Rows that are named when they are oversold.
_EXAMPLES = 5

_PATIENCE = 60.0


def demo(
    seconds: Annotated[float, typer.Option(min=1, help="How long to sell.")] = 30,
    rate: Annotated[float, typer.Option(min=1, help="Changed rows per second.")] = RATE,
    skus: Annotated[int, typer.Option(min=1, help="In three warehouses each.")] = 5_000,
    seed: Annotated[int, typer.Option(help="The same seed sells the same.")] = 1,
) -> None:
    """Start everything, sell, watch it arrive in Redis and four channels, compare every row.

    Orders are reservations, then confirmed or released; an order that finds too little is refused.
    Halfway the policy of the channel web is edited, and at the end the edit is taken back.

    Exit code 1 on any drift, on anything oversold, or when a 99th percentile is over a second.
    The stack stays up.
    """
    log_no_retries()
    console = Console(highlight=False)
    settings = load_settings()
    plan = WorkloadPlan(seed, skus, WAREHOUSES, hot_share=HOT_SHARE, sell_out=True)
    try:
        environment = bring_up(settings, console).environment()
        outcome = Demo(settings, environment, plan, console).run(rate, seconds)
        report = _audit(settings, console)
    except KeyboardInterrupt:
        console.print("Interrupted; the stack is left as it is. `make down` stops it.")
        raise typer.Exit(130) from None
    failures = verdict(report, outcome.latencies, outcome.oversold)
    console.print(latencies_line(outcome.latencies))
    console.print(edit_line(outcome.edit, plan.hot_sku), soft_wrap=True)
    oversold = sum(row.units for row in outcome.oversold)
    console.print(
        orders_line(outcome.load, oversold), style="red" if oversold else "green", soft_wrap=True
    )
    console.print(report.verdict, style="red" if report.drift else "green")
    for example in report.examples():
        console.print(f"  {example}")
    for failure in failures:
        console.print(f"FAILED: {failure}", style="red")
    console.print("\nThe stack is up; `make down` stops it. Try next:")
    for command in next_commands(settings, plan.hot_sku):
        console.print(f"  {command}", soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def verdict(
    report: AuditReport,
    latencies: Mapping[str, LatencySummary],
    oversold: Sequence[Overpromised] = (),
) -> list[str]:
    """Why a demo has failed; empty when it has not."""
    failures = [report.verdict] if report.drift else []
    failures += [f"oversold {row.units:,} units of {row}" for row in oversold[:_EXAMPLES]]
    if len(oversold) > _EXAMPLES:
        failures.append(f"oversold {len(oversold) - _EXAMPLES:,} more rows")
    for place, latency in latencies.items():
        if latency.p99 is None:
            failures.append(f"nothing has arrived in {place}")
        elif latency.p99 > P99_LIMIT:
            failures.append(f"p99 of {place} is {latency.p99:,.0f} ms, over {P99_LIMIT:,.0f} ms")
    return failures


def next_commands(settings: Settings, sku: str) -> list[str]:
    """Three commands as a person can paste them here."""
    here, binaries = Path.cwd(), Path(sys.executable).parent
    place = binaries.relative_to(here) if binaries.is_relative_to(here) else binaries
    redis = settings.redis_url
    database = (redis.path or "/0").removeprefix("/") or "0"
    return [
        shlex.join([str(place / command), *arguments])
        for command, *arguments in (
            ("stockwire", "get", sku),
            ("stockwire", "tail", "web"),
            (
                "redis-cli",
                *("-h", redis.host or "127.0.0.1", "-p", str(redis.port or 6379)),
                *(() if database == "0" else ("-n", database)),
                *("HGETALL", availability_key(sku)),
            ),
        )
    ]


class Outcome(NamedTuple):
    """What a demo has measured."""

    latencies: Mapping[str, LatencySummary]
    edit: PolicyEdit
    load: LoadReport
    oversold: Sequence[Overpromised]


class Demo:
    """The load of a demo, and what is shown of it."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        plan: WorkloadPlan,
        console: Console,
    ) -> None:
        """Sell by this plan; the observers get `environment`."""
        self._settings = settings
        self._environment = environment
        self._plan = plan
        self._console = console
        self._backlog = Backlog(settings.kafka_bootstrap)
        #: Seconds between two frames: a log is not to be flooded.
        self._interval = 0.5 if console.is_terminal else 5.0
        self._edit_printed = False

    def run(self, rate: float, seconds: float) -> Outcome:
        """Seed, sell, and return what was measured once everything has arrived.

        The latencies are those of stock changes. Those that had to wait for the policy edit are
        among them; the numbers that the edit itself had computed anew are not, since one edit
        tells as many as a sale of several seconds. Its latency has a line of its own.

        Raises:
            Outage: a server does not answer, or the changes or the edit do not arrive.
        """
        end = self._fill().end
        conninfo, hot = self._settings.conninfo(), self._plan.hot_sku
        with (
            observing(self._environment, watch=hot) as observers,
            AvailabilityReader.from_url(str(self._settings.redis_url)) as reader,
            watching_oversold(conninfo) as watch,
            self._screen() as show,
        ):
            end += open_sale(conninfo, hot, round(rate * seconds * HOT_UNITS))

            def frame(load: LoadReport, report: Report) -> Frame:
                found = reader.get(hot, "web")
                units = dict(report.watched) | ({} if found is None else {REDIS: found.available})
                lags = self._backlog.position().lags
                return Frame(seconds, load, report, hot, units, lags, meanwhile.done, watch.units())

            with (
                edit_meanwhile(self._settings, hot, seconds / 2, _PATIENCE) as meanwhile,
                loading(
                    conninfo,
                    self._plan,
                    changes_per_second=rate,
                    duration=seconds,
                    connections=LANES,
                    through=Through.RESERVATIONS,
                ) as run,
            ):
                while not run.wait(self._interval):
                    show(frame(run.report, observers.report))
                load = run.result()
                edit = meanwhile.result()
            self._backlog.until_drained(end + load.changes, _PATIENCE)
            report = observers.finish()
            show(frame(load, report))
            return Outcome(report.latencies, edit, load, watch.rows())

    def _fill(self) -> Position:
        with Progress(self._console) as say:
            skus = self._plan.skus
            say(f"seeding {skus:,} SKUs in {WAREHOUSES} warehouses")

            def look(position: Position) -> None:
                if self._console.is_terminal:
                    say(f"waiting for {position.lag:,} seeded rows to arrive")

            return fill(self._settings, self._backlog, skus, WAREHOUSES, _PATIENCE, look)

    @contextmanager
    def _screen(self) -> Iterator[Callable[[Frame], None]]:
        if not self._console.is_terminal:
            yield self._print
            return
        with Live(console=self._console, auto_refresh=False) as live:
            yield lambda frame: live.update(table(frame), refresh=True)

    def _print(self, frame: Frame) -> None:
        self._console.print(line(frame), soft_wrap=True)
        if frame.edit is not None and not self._edit_printed:
            self._edit_printed = True
            self._console.print(edit_line(frame.edit, frame.hot_sku), soft_wrap=True)


def _audit(settings: Settings, console: Console) -> AuditReport:
    with Progress(console) as say:
        say("comparing every row of Postgres with Redis and the channels")
        with Auditor.open(
            settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap
        ) as auditor:
            return auditor.audit_until_settled(_PATIENCE)
