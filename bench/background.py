"""A load that runs while the caller looks at something else."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace

import psycopg

from bench.lane import LoadReport
from bench.load import run
from bench.sellers import Through
from bench.workload import WorkloadPlan
from inventory.errors import Outage


class BackgroundLoad:
    """A run in a thread of its own; `loading` starts one."""

    def __init__(
        self, future: Future[LoadReport], totals: LoadReport, stop: threading.Event
    ) -> None:
        """Show the totals of this run, which it keeps up to date."""
        self._future = future
        self._totals = totals
        self._stop = stop

    @property
    def report(self) -> LoadReport:
        """The totals so far, as a copy."""
        return replace(self._totals)

    def wait(self, timeout: float) -> bool:
        """Whether it is over within `timeout` seconds."""
        return not wait([self._future], timeout).not_done

    def stop(self) -> None:
        """End it early, after the transactions in hand."""
        self._stop.set()

    def result(self) -> LoadReport:
        """The totals at its end.

        Raises:
            Outage: Postgres is gone or refuses.
        """
        try:
            return self._future.result()
        except psycopg.Error as exc:
            reason = " ".join(str(exc).split())
            raise Outage(
                f"The load has ended early, Postgres says: {reason}; look at make status."
            ) from exc


@contextmanager
def loading(
    conninfo: str,
    plan: WorkloadPlan,
    *,
    changes_per_second: float | None,
    duration: float | None,
    connections: int = 2,
    through: Through = Through.SQL,
) -> Iterator[BackgroundLoad]:
    """Run a plan while inside the context; leaving it stops the run.

    The arguments are those of `bench.load.run`.
    """
    stop = threading.Event()
    totals = LoadReport()

    def note(report: LoadReport) -> None:
        totals.transactions, totals.changes = report.transactions, report.changes
        totals.refused, totals.seconds = report.refused, report.seconds
        totals.orders_granted = report.orders_granted
        totals.orders_refused = report.orders_refused

    with ThreadPoolExecutor(1, thread_name_prefix="background") as pool:
        future = pool.submit(
            run,
            conninfo,
            plan,
            changes_per_second=changes_per_second,
            duration=duration,
            connections=connections,
            through=through,
            stop=stop,
            on_commit=note,
        )
        try:
            yield BackgroundLoad(future, totals, stop)
        finally:
            stop.set()
