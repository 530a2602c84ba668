"""`stockwire verify`: is every row everywhere as Postgres says?"""

from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from audit.auditor import Auditor
from audit.report import AuditReport, Difference, Fields
from inventory.settings import load_settings


def verify(
    patience: Annotated[
        float,
        typer.Option(min=0, help="Seconds that changes in flight get before drift is drift."),
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
) -> None:
    """Compare every row of Postgres with Redis and with each channel's topic.

    Exit code 0 without drift, 1 with any. Under steady load there are always changes in flight:
    look once it pauses.

    Try it: `redis-cli -p 16379 HSET 'availability:{SKU-00001}' web 999`, then `stockwire verify`.
    """
    settings = load_settings()
    with Auditor.open(
        settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap
    ) as auditor:
        report = auditor.audit_until_settled(patience)
    if as_json:
        print(orjson.dumps(as_dict(report)).decode())
    else:
        print_report(report, Console(markup=False))
    if report.drift:
        raise typer.Exit(1)


def print_report(report: AuditReport, console: Console) -> None:
    """A line per place, examples of drift, and the verdict; a table on a terminal."""
    if console.is_terminal:
        table = Table("place", "drift", "of")
        for column in table.columns[1:]:
            column.justify = "right"
        for place in report.places:
            style = "red" if place.drift else "green"
            table.add_row(place.place, f"{place.drift:,}", f"{place.compared:,}", style=style)
        console.print(table)
    else:
        width = max(len(place.place) for place in report.places)
        for place in report.places:
            print(f"{place.place:{width}}  drift: {place.drift:,} of {place.compared:,}")
    for example in report.examples():
        print(f"  {describe(example)}")
    if report.rejected:
        print(f"dead-lettered by rule, not compared: {report.rejected:,} rows")
    if expired := sum(place.expired for place in report.places):
        print(f"older than a ledger's retention, not compared there: {expired:,} rows")
    print(report.verdict)


def describe(difference: Difference) -> str:
    """One difference as a line."""
    place, sku, warehouse, expected, found = difference
    where = sku if warehouse is None else f"{sku} in {warehouse}"
    return f"{place}: {where}: expected {_text(expected)}, found {_text(found)}"


def as_dict(report: AuditReport) -> dict[str, object]:
    """The report as JSON shows it."""
    return {
        "drift": report.drift,
        "rows": report.rows,
        "skus": report.skus,
        "rejected": report.rejected,
        "places": [
            {
                "place": place.place,
                "compared": place.compared,
                "drift": place.drift,
                "expired": place.expired,
            }
            for place in report.places
        ],
        "examples": [example._asdict() for example in report.examples()],
    }


def _text(fields: Fields | None) -> str:
    if fields is None:
        return "nothing"
    return ", ".join(f"{name} {value}" for name, value in fields.items())
