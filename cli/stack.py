"""`stockwire up`, `down` and the like: the embedded stack, from nothing to workers at work."""

import json
import shlex
import sys
from dataclasses import asdict
from datetime import timedelta
from textwrap import shorten
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.bringup import Progress, bring_up
from compose.embedded import Stack
from inventory.settings import load_settings

#: Characters of a reason that the table shows; `--json` and the process itself have all of it.
_REASON = 150


def setup() -> None:
    """Download the jars of Kafka, Connect and Debezium, so that `up` needs no network."""
    Stack(load_settings()).install(Console())
    print("Everything is installed. Next: make demo, or make up.")


def up() -> None:
    """Start every server and the workers, and return when all of them answer.

    A second `up` changes nothing. Data is kept in .stack/ (STOCKWIRE_STACK_DIR).
    """
    bring_up(load_settings(), Console())


def down() -> None:
    """Stop every process of the stack; the data stays."""
    with Progress(Console()) as say:
        Stack(load_settings()).stop(say)


def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop every process of the stack and throw its data away."""
    settings = load_settings()
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Throw away all data in {settings.stack_dir.resolve()}?", abort=True)
    with Progress(Console()) as say:
        Stack(settings).reset(say)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per part.")] = False,
) -> None:
    """Show what runs, since when, on which port, in how much memory, and whether it is ready.

    Exit code 1 when a part does not answer.
    """
    parts = Stack(load_settings()).status()
    if as_json:
        for part in parts:
            print(json.dumps(asdict(part)))
    else:
        table = Table("part", "state", "pid", "port", "memory", "uptime", "ready")
        for part in parts:
            table.add_row(
                part.part,
                part.state,
                str(part.pid or ""),
                str(part.port) if part.pid else "",
                f"{part.resident_mb} MB" if part.pid else "",
                str(timedelta(seconds=part.uptime)) if part.pid else "",
                "yes" if part.ready else shorten(part.reason or "no", _REASON, placeholder=" …"),
            )
        total = sum(part.resident_mb for part in parts)
        table.add_section()
        table.add_row("all", "", "", "", f"{total} MB", "", "")
        Console().print(table)
    if not all(part.answers for part in parts):
        raise typer.Exit(1)


def logs(
    part: Annotated[str | None, typer.Argument(help="One of the parts; all when left out.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of each.")] = 20,
) -> None:
    """Print the end of each part's log, e.g. `stockwire logs connect -n 100`."""
    stack = Stack(load_settings())
    for name in stack.parts if part is None else (part,):
        print(f"==> {stack.log_path(name)} <==")
        print(stack.log_tail(name, lines))


def env() -> None:
    """Print `export` lines that lead other programs to the stack: eval "$(stockwire env)"."""
    for name, value in Stack(load_settings()).environment().items():
        print(f"export {name}={shlex.quote(value)}")
