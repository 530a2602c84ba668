"""`stockwire audit`: is every row everywhere as Postgres says?"""

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer
from redis import Redis
from rich.console import Console
from rich.table import Table

from audit.auditor import Auditor
from audit.continuous.patrol import AUDIT_KEY
from audit.continuous.repair import repair
from audit.report import AuditReport, Difference, Fields
from inventory.settings import Settings, load_settings
from projections.outage import redis_outages

#: The auditor writes its figures every two seconds.
_OLD_SECONDS = 30

#: Exit codes; 2 is typer's, for wrong options.
_DRIFT, _UNKNOWN = 1, 3


def audit(
    once: Annotated[
        bool, typer.Option("--once", help="Compare everything now, instead of asking the auditor.")
    ] = False,
    heal: Annotated[
        bool, typer.Option("--heal", help="With --once: have what drifts sent again.")
    ] = False,
    patience: Annotated[
        float,
        typer.Option(min=0, help="Seconds that changes in flight get before drift is drift."),
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
) -> None:
    """Say what the running auditor has found, or with --once compare every row now.

    Exit code 0 without drift, 1 with any, 2 for wrong options, and 3 when the running auditor
    cannot say: it does not run, has not ended a pass yet, or cannot judge what it has found. --once
    reads every topic from its beginning. Under steady load there are always changes in flight: look
    once it pauses.

    Try it: `redis-cli -p 16379 HSET 'availability:{SKU-00001}' web 999`, then `stockwire audit`.
    """
    if heal and not once:
        raise typer.BadParameter("--heal goes with --once; the running auditor heals by itself.")
    settings = load_settings()
    if not once:
        _show_latest(settings, as_json=as_json)
        return
    console = Console(stderr=True, highlight=False)
    with (
        console.status("comparing every row"),
        Auditor.open(
            settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap
        ) as auditor,
    ):
        report = auditor.audit_until_settled(patience)
        if heal and report.drift:
            repair(settings, auditor)
            report = auditor.audit_until_settled(max(patience, 30.0))
    if as_json:
        print(as_json_text(report))
    else:
        print_report(report, Console(markup=False))
    if report.drift:
        raise typer.Exit(_DRIFT)


def _show_latest(settings: Settings, *, as_json: bool) -> None:
    with redis_outages(), Redis.from_url(str(settings.redis_url)) as redis:
        found = redis.get(AUDIT_KEY)
    if not isinstance(found, bytes):
        print(
            "No auditor has said anything yet: see that it runs (`make status`), or compare now "
            "with `stockwire audit --once`.",
            file=sys.stderr,
        )
        raise typer.Exit(_UNKNOWN)
    figures = orjson.loads(found)
    age = (datetime.now(UTC) - datetime.fromisoformat(figures["at"])).total_seconds()
    if as_json:
        print(found.decode())
        for line in unknown(figures, age):
            print(line, file=sys.stderr)
    else:
        print(latest(figures, age))
    if figures["drift"]:
        raise typer.Exit(_DRIFT)
    if unknown(figures, age):
        raise typer.Exit(_UNKNOWN)


def latest(figures: dict[str, object], age: float) -> str:
    """What the auditor said so many seconds ago, for people."""
    lines = [
        f"drift: {figures['drift']:,} SKUs of {figures['rows']:,} rows",
        f"last pass: {figures['pass_seconds']} s, {figures['pass_cpu_seconds']} s of a core; "
        f"{figures['passes']:,} passes",
        f"healed: {figures['healed']:,} SKUs, {figures['ghosts']:,} of them ghosts; "
        f"suspects: {figures['suspects']:,}",
    ]
    if figures["waits_for"]:
        lines.append(f"suspects wait for {figures['waits_for']}")
    return "\n".join([*lines, *unknown(figures, age)])


def unknown(figures: dict[str, object], age: float) -> list[str]:
    """Why no drift does not mean that all is well."""
    reasons = []
    if not figures["passes"]:
        reasons.append("no pass yet: not everything was looked at since the auditor started")
    if figures.get("blind"):
        reasons.append(f"cannot judge since {figures['blind_since']}: {figures['blind']}")
    if age > _OLD_SECONDS:
        reasons.append(f"said {age:,.0f} s ago: the auditor does not run (`make status`)")
    return reasons


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


def as_json_text(report: AuditReport) -> str:
    """The report as JSON; orjson takes no false version of 20 digits."""
    return json.dumps(as_dict(report), ensure_ascii=False)


def _text(fields: Fields | None) -> str:
    if fields is None:
        return "nothing"
    return ", ".join(f"{name} {value}" for name, value in fields.items())
