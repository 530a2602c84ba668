"""What a demo shows while it runs: a table on a terminal, a line elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.arrivals import REDIS
from bench.lane import LoadReport
from bench.latencies import LatencySummary
from bench.observers import Report
from bench.policy_edits import PolicyEdit


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment of a demo.

    Attributes:
        seconds: how long the load is to run.
        units: of the hot SKU, by place; places that were not told anything yet are absent.
        lags: changes that are not confirmed yet, by worker.
        edit: the policy edit, once everybody knows of it.
        oversold: units that are promised and not there, as Postgres has it.
    """

    seconds: float
    load: LoadReport
    report: Report
    hot_sku: str
    units: Mapping[str, int]
    lags: Mapping[str, int]
    edit: PolicyEdit | None = None
    oversold: int = 0

    @property
    def commits_per_second(self) -> float:
        """Transactions per second so far."""
        return self.load.transactions / self.load.seconds if self.load.seconds else 0.0


def table(frame: Frame) -> RenderableType:
    """The live table."""
    grid = Table("commit →", title_justify="left", title=_pace(frame))
    for heading in ("messages", "p50", "p99", "max", f"{frame.hot_sku} left"):
        grid.add_column(heading, justify="right", min_width=8)
    for place, latency in frame.report.latencies.items():
        units = frame.units.get(place)
        grid.add_row(
            "Redis" if place == REDIS else place,
            f"{latency.count:,}",
            milliseconds(latency.p50),
            milliseconds(latency.p99),
            milliseconds(latency.max),
            "" if units is None else f"{units:,}",
        )
    below = [
        Text(orders_line(frame.load, frame.oversold), style="red" if frame.oversold else "green"),
        Text(f"not confirmed yet: {_lags(frame)}", style="dim"),
    ]
    if frame.edit is not None:
        below.append(Text(edit_line(frame.edit, frame.hot_sku)))
    return Group(grid, *below)


def line(frame: Frame) -> str:
    """The same in one line, for logs."""
    places = " ".join(
        f"{place} {milliseconds(latency.p50)}/{milliseconds(latency.p99)}"
        for place, latency in frame.report.latencies.items()
    )
    units = frame.units.get(REDIS)
    left = "" if units is None else f" | {frame.hot_sku} {units:,} left"
    orders = orders_line(frame.load, frame.oversold)
    return f"{_pace(frame)} | {orders} | p50/p99: {places} | not confirmed: {_lags(frame)}{left}"


def orders_line(load: LoadReport, oversold: int) -> str:
    """What became of the orders, and of how many units more were promised than there are."""
    return (
        f"orders: {load.orders_granted:,} granted, {load.orders_refused:,} refused, "
        f"{oversold:,} oversold"
    )


def edit_line(edit: PolicyEdit, sku: str) -> str:
    """A policy edit in one line; `sku` is the one that was watched."""
    return (
        f"policy edit: {edit.channel} buffer {edit.before:,} → {edit.after:,}, "
        f"on {sku} after {milliseconds(edit.watched_ms)}, "
        f"on all {edit.skus:,} SKUs after {milliseconds(edit.whole_ms)}"
    )


def milliseconds(value: float | None) -> str:
    """A latency to read, such as `9.8 ms`, `310 ms` or `1.8 s`."""
    if value is None:
        return "-"
    if value < 99.95:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 999.5 else f"{value / 1000:.1f} s"


def latencies_line(latencies: Mapping[str, LatencySummary]) -> str:
    """The p99 of a whole run in one line."""
    parts = (f"{place} {milliseconds(latency.p99)}" for place, latency in latencies.items())
    return f"commit → {', '.join(parts)} (p99)"


def _pace(frame: Frame) -> str:
    load = frame.load
    return (
        f"{min(load.seconds, frame.seconds):.0f} of {frame.seconds:.0f} s: "
        f"{frame.commits_per_second:,.0f} commits/s, {load.changes_per_second:,.0f} changes/s"
    )


def _lags(frame: Frame) -> str:
    return ", ".join(f"{worker} {lag:,}" for worker, lag in frame.lags.items())
