"""`stockwire doctor`: what is wrong, why it matters, and the command that mends it."""

import time
from dataclasses import asdict
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table
from stamina.instrumentation import set_on_retry_hooks

from compose.embedded.places import places
from compose.embedded.workers import workers_of
from guard.checks import examine
from guard.finding import Finding, Severity, worst
from guard.look import look
from inventory.errors import StackError
from inventory.settings import Settings, load_settings

_STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.CRITICAL: "red"}
_PAUSE = 5.0


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per finding.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again.")] = False,
) -> None:
    """Look at every part, and say what is wrong and which command mends it.

    Works when parts are down. Exit code 0 when all is well, 1 with warnings, 2 when something is
    critical.
    """
    settings, console = load_settings(), Console(markup=False, highlight=False)
    # What does not answer is a finding; each attempt would be a line among them.
    set_on_retry_hooks([])
    while True:
        findings = examine(look(settings, health_ports(settings)))
        if as_json:
            for finding in findings:
                print(orjson.dumps(as_dict(finding)).decode(), flush=True)
        else:
            if watch and console.is_terminal:
                console.clear()
            show(findings, console)
        if not watch:
            break
        time.sleep(_PAUSE)
    raise typer.Exit(int(worst(findings)))


def health_ports(settings: Settings) -> dict[str, int]:
    """Where each process of the embedded stack answers for its health; none of another stack."""
    try:
        ports = places(settings).ports
    except StackError:
        return {}
    return {name: ports.health_of(name) for name in workers_of(settings)}


def show(findings: list[Finding], console: Console) -> None:
    """What is wrong, worst first: a table on a terminal, lines elsewhere; then the verdict."""
    wrong = sorted(
        (finding for finding in findings if finding.severity),
        key=lambda finding: finding.severity,
        reverse=True,
    )
    if console.is_terminal and wrong:
        table = Table("", "finding", "why it matters", "what mends it", show_lines=True)
        for finding in wrong:
            table.add_row(
                finding.severity.name.lower(),
                f"{finding.subject}: {finding.what}",
                finding.why,
                f"{finding.mend}\n({finding.check})",
                style=_STYLES[finding.severity],
            )
        console.print(table)
    else:
        for finding in wrong:
            print(f"{finding.severity.name.lower():8}  {finding.subject}: {finding.what}")
            print(f"          why: {finding.why}")
            print(f"          mend: {finding.mend}")
            print(f"          more: docs/runbook.md, {finding.check}")
    print(verdict(findings))


def verdict(findings: list[Finding]) -> str:
    """One line over all."""
    counts = {
        severity: sum(finding.severity is severity for finding in findings)
        for severity in (Severity.CRITICAL, Severity.WARNING)
    }
    if any(counts.values()):
        return (
            f"{counts[Severity.CRITICAL]} critical, {counts[Severity.WARNING]} warnings, of "
            f"{len(findings)} looked at; docs/runbook.md has an entry for each check."
        )
    return f"All {len(findings)} are well. Whether every row is everywhere: stockwire audit --once"


def as_dict(finding: Finding) -> dict[str, object]:
    """A finding as JSON shows it."""
    return {**asdict(finding), "severity": finding.severity.name.lower()}
