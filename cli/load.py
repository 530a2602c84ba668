"""`stockwire load`: what a business does to its stock, as real transactions."""

import json
from typing import Annotated

import psycopg
import typer
from rich.console import Console

from bench.background import BackgroundLoad, loading
from bench.lane import LoadReport
from bench.load import seed_catalogue
from bench.sellers import Through
from bench.workload import WorkloadPlan
from cli.bringup import Progress
from inventory.errors import Outage
from inventory.settings import load_settings
from reservations.trying import log_no_retries

#: Part of all lines that a flash sale sends to one SKU.
FLASH_SALE_SHARE = 0.5


def load(
    rate: Annotated[
        float, typer.Option(min=0, help="Changed rows per second; 0 for as fast as it goes.")
    ] = 500,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 30,
    skus: Annotated[int, typer.Option(min=1, help="SKU-00001 on; few of them sell most.")] = 5_000,
    warehouses: Annotated[int, typer.Option(min=1, help="WH-1 on.")] = 3,
    seed: Annotated[int, typer.Option(help="The same seed gives the same transactions.")] = 1,
    connections: Annotated[int, typer.Option(min=1, help="Connections to Postgres.")] = 2,
    flash_sale: Annotated[
        bool, typer.Option("--flash-sale", help="Half of all lines want SKU-00001.")
    ] = False,
    through: Annotated[
        Through, typer.Option(help="Reservations as a shop makes them, or one bare statement each.")
    ] = Through.RESERVATIONS,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Sell, ship, receive, move and count stock; missing SKUs are added first.

    It changes nothing but the database, and needs only that: start it with `stockwire up`.
    """
    log_no_retries()
    conninfo = load_settings().conninfo()
    plan = WorkloadPlan(seed, skus, warehouses, hot_share=FLASH_SALE_SHARE if flash_sale else 0.0)
    console = Console(stderr=as_json)
    try:
        with Progress(console) as say:
            say("seeding the catalogue")
            seed_catalogue(conninfo, skus, warehouses, seed)
            with loading(
                conninfo,
                plan,
                changes_per_second=rate or None,
                duration=seconds,
                connections=connections,
                through=through,
            ) as run:
                interrupted = _watch(run, say, every=0.5 if console.is_terminal else 5.0)
                report = run.result()
    except psycopg.Error as exc:
        raise Outage(
            f"Postgres takes no load ({' '.join(str(exc).split())}); start it with: make up."
        ) from exc
    if as_json:
        print(to_json(report))
    else:
        console.print(summary(report), highlight=False, soft_wrap=True)
    if interrupted:
        raise typer.Exit(130)


def summary(report: LoadReport) -> str:
    """A run in one sentence."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in report.by_kind.most_common())
    return (
        f"{report.changes:,} changes in {report.transactions:,} transactions in "
        f"{report.seconds:.1f} s: {report.changes_per_second:,.0f} changes/s "
        f"({kinds}; {report.refused:,} refused for lack of stock)."
    )


def to_json(report: LoadReport) -> str:
    """A run as one line of JSON."""
    return json.dumps(
        {
            "transactions": report.transactions,
            "changes": report.changes,
            "refused": report.refused,
            "orders_granted": report.orders_granted,
            "orders_refused": report.orders_refused,
            "seconds": report.seconds,
            "changes_per_second": report.changes_per_second,
            "by_kind": dict(report.by_kind),
        }
    )


def _watch(run: BackgroundLoad, say: Progress, every: float) -> bool:
    """Say how far a run is until it ends; whether Ctrl-C has ended it early."""
    try:
        while not run.wait(every):
            now = run.report
            say(f"{now.changes:,} changes, {now.changes_per_second:,.0f}/s")
    except KeyboardInterrupt:
        run.stop()
        return True
    return False
