"""The root of the `stockwire` command, and the one place where errors become sentences."""

import sys
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import typer

from cli import (
    audit,
    bench,
    channel_edit,
    channels,
    demo,
    doctor,
    explain,
    load,
    locks,
    projection,
    read,
    recover,
    reserve,
    saga,
    simulate,
    stack,
)
from inventory.errors import StockwireError

app = typer.Typer(
    name="stockwire",
    help="Committed stock changes in every storefront and every channel within a second.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: In the order in which a person meets them.
COMMANDS: MappingProxyType[str, Callable[..., Any]] = MappingProxyType(
    {
        "setup": stack.setup,
        "demo": demo.demo,
        "up": stack.up,
        "down": stack.down,
        "reset": stack.reset,
        "status": stack.status,
        "logs": stack.logs,
        "env": stack.env,
        "load": load.load,
        "get": read.get,
        "tail": read.tail,
        "explain": explain.explain,
        "channels": channels.channels,
        "channel-new": channel_edit.channel_new,
        "channel-remove": channel_edit.channel_remove,
        "reserve": reserve.reserve,
        "simulate": simulate.simulate,
        "audit": audit.audit,
        "doctor": doctor.doctor,
        "locks": locks.locks,
        "bench": bench.bench,
    }
)

for name, command in COMMANDS.items():
    app.command(name)(command)

app.add_typer(projection.app, name="projection")
app.add_typer(recover.app)
app.add_typer(saga.app)
app.add_typer(reserve.app)


def run() -> None:
    """Run the command; a known error is one sentence on stderr and exit code 1."""
    try:
        app()
    except StockwireError as exc:
        print(f"stockwire: {exc}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
