"""`stockwire recover`: a lost slot, a restored database or wrong topics, one command each."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from audit.auditor import Auditor
from audit.continuous.repair import repair
from cli.bringup import Progress
from guard.recovery import recover_database, recover_slot
from guard.topics import recover_topics
from inventory.settings import Settings, load_settings

app = typer.Typer(
    name="recover",
    help="Make good what a lost slot or a restored database took; put topics right.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: Seconds that changes in flight get before they count as drift.
_PATIENCE = 10.0

_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_Recovery = Callable[[Settings, Callable[[str], None]], None]


@app.command("slot")
def slot(yes: _Yes = False) -> None:
    """Replace a lost or dropped replication slot, without a gap.

    A new slot, a snapshot through it, the deletes that nobody captured, and an audit. Changes go
    on to be committed, and arrive when it is through. Safe to run again.
    """
    _recover(
        recover_slot,
        yes,
        "The connector is stopped, its slot and offsets are dropped, and every row is read anew. "
        "Storefronts keep the numbers they have until then.",
    )


@app.command("database")
def database(yes: _Yes = False) -> None:
    """After a restore from an old backup: let what Postgres says win over what was told.

    Version sequences are set above what was told, each row gets a new version, and then as for a
    lost slot. Safe to run again; the line stays stopped until every row has its new version.
    """
    _recover(
        recover_database,
        yes,
        "Postgres as it is now becomes the truth: what was committed after the backup is taken "
        "back everywhere. Every row gets a new version and is read anew.",
    )


@app.command("topics")
def topics() -> None:
    """Create the topics that are missing, and set what is set otherwise than it must be.

    Numbers of partitions stay: more of them would move keys. Safe to run again.
    """
    with Progress(Console(highlight=False)) as say:
        recover_topics(load_settings(), say)


def _recover(recovery: _Recovery, yes: bool, consequence: str) -> None:
    settings, console = load_settings(), Console(highlight=False)
    console.print(consequence)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("there is nobody to ask; say --yes")
        typer.confirm("Go on?", abort=True)
    with Progress(console) as say:
        recovery(settings, say)
        differed = audit_and_heal(settings, say)
    if differed:
        console.print(
            f"Recovered; {differed:,} SKUs differed at the last look, as those do whose changes "
            "are in flight, and were sent again. When sales pause: stockwire audit --once"
        )
    else:
        console.print("Recovered, no drift. To see the rest: stockwire doctor")


def audit_and_heal(settings: Settings, say: Callable[[str], None]) -> int:
    """Compare every row everywhere and have what differs sent again; how many SKUs differed."""
    say("audit: comparing every row")
    with Auditor.open(
        settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap
    ) as auditor:
        drift = auditor.audit_until_settled(_PATIENCE).drift
        differed = repair(settings, auditor) if drift else 0
    say(f"audit: {differed:,} SKUs are sent again")
    return differed
