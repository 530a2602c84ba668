"""`stockwire saga list | show | retry`: the checkouts, and what each of them waits for."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from inventory.errors import NotFound
from inventory.settings import load_settings
from reservations.pool import open_pool
from reservations.reads import read
from reservations.saga.machine import Record, State, Status, Step
from reservations.saga.store import Listed, Sagas

_T = TypeVar("_T")

app = typer.Typer(
    name="saga",
    help="Checkouts: reserve, pay, ship and confirm, or all of it undone.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_Id = Annotated[UUID, typer.Argument(metavar="ID", help="The saga's id, from `saga list`.")]

#: Seconds that Postgres gets to answer a person.
_PATIENCE = 5.0

_STYLES = {
    Status.COMPLETED: "green",
    Status.RUNNING: "",
    Status.COMPENSATING: "yellow",
    Status.FAILED: "red",
}


@app.command("list")
def list_sagas(
    status: Annotated[Status | None, typer.Option(help="Only those that stand like this.")] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: _Json = False,
) -> None:
    """List the newest checkouts, and how each stands.

    Example: `stockwire saga list --status compensating`
    """
    found = _ask(lambda sagas: sagas.latest(status, most), stale=True) or []
    if as_json:
        for listed in found:
            print(orjson.dumps(as_dict(listed)).decode())
        return
    Console(markup=False, highlight=False).print(table_of(found))


@app.command("show")
def show(saga: _Id, as_json: _Json = False) -> None:
    """Show one checkout: each of its steps, and what is waited for."""
    listed = _ask(lambda sagas: sagas.find(saga), stale=True)
    if listed is None:
        raise _unknown(saga)
    if as_json:
        print(orjson.dumps(as_dict(listed)).decode())
        return
    print("\n".join(lines_of(listed)))


@app.command("retry")
def retry(saga: _Id, as_json: _Json = False) -> None:
    """Have the next step done now, rather than after its pause.

    What has ended is not done again: send another command. Exit code 1 where it has.
    """
    due = _ask(lambda sagas: sagas.retry(saga))
    listed = _ask(lambda sagas: sagas.find(saga))
    if listed is None:
        raise _unknown(saga)
    status = listed.saga.status
    if as_json:
        print(orjson.dumps({"id": str(saga), "due": due, "status": status}).decode())
    elif due:
        print(f"{saga} is {status}; its next step is due now.")
    else:
        print(f"{saga} has {status}: there is nothing left to do.")
    if not due:
        raise typer.Exit(1)


def table_of(found: list[Listed]) -> Table:
    """A line for each; it fits into 100 columns with references of an ordinary length."""
    table = Table("id", "reference", "status", "step", "begun", "why", box=SIMPLE, pad_edge=False)
    for listed in found:
        saga = listed.saga
        step = waiting_step(listed)
        table.add_row(
            str(saga.id),
            saga.command.reference,
            saga.status,
            step or "",
            _time(listed.created_at),
            "" if step is None else why(saga.records[step]),
            style=_STYLES[saga.status],
        )
    return table


def waiting_step(listed: Listed) -> Step | None:
    """The step that failed, or the one that is next; None when all are done."""
    saga = listed.saga
    ahead = (step for step in Step if saga.records[step].state is State.PENDING)
    return saga.failed_step or next(ahead, None)


def why(record: Record) -> str:
    """What the last attempt said; empty if none was in vain."""
    return record.trouble or record.reason or ""


def lines_of(listed: Listed) -> list[str]:
    """A checkout for people."""
    saga, command = listed.saga, listed.saga.command
    lines = [
        f"saga       {saga.id}, version {saga.version}",
        f"command    {command.id} of {command.caller}, reference {command.reference}",
        f"basket     {', '.join(f'{line.quantity} x {line.sku}' for line in command.lines)}",
        f"amount     {command.amount_minor} {command.currency} (in the smallest unit)",
        f"begun      {_time(listed.created_at)}",
    ]
    for step in Step:
        record = saga.records[step]
        text = f"{step:10} {record.state}"
        if record.attempts:
            text += f", {record.attempts} attempts in vain"
        for said in filter(None, (record.reason, record.trouble)):
            text += f": {said}"
        lines.append(text)
    lines.append(f"status     {saga.status}{_when(listed)}")
    return lines


def as_dict(listed: Listed) -> dict[str, Any]:
    """A checkout as JSON shows it."""
    saga = listed.saga
    return {
        "id": str(saga.id),
        "version": saga.version,
        "status": saga.status,
        "failed_step": saga.failed_step,
        "command": saga.command.model_dump(mode="json"),
        "steps": {step.value: saga.records[step] for step in Step},
        "due_at": _time(listed.due_at),
        "claimed_by": listed.claimed_by,
        "claimed_until": _time_if(listed.claimed_until),
        "created_at": _time(listed.created_at),
        "updated_at": _time(listed.updated_at),
        "ended_at": _time_if(listed.ended_at),
    }


def _when(listed: Listed) -> str:
    if listed.ended_at is not None:
        return f" at {_time(listed.ended_at)}"
    if listed.claimed_until is not None:
        return f"; {listed.claimed_by} works on it until {_time(listed.claimed_until)} at most"
    return f"; the next attempt is due at {_time(listed.due_at)}"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time_if(moment: datetime | None) -> str | None:
    return None if moment is None else _time(moment)


def _unknown(saga: UUID) -> NotFound:
    return NotFound(f"There is no saga {saga}; see `stockwire saga list`.")


def _ask(work: Callable[[Sagas], Awaitable[_T | None]], *, stale: bool = False) -> _T | None:
    """Of the primary; what may be `stale`, of a replica where there is one."""
    settings = load_settings()

    async def main() -> _T | None:
        if stale:
            return await read(
                lambda pool: work(Sagas(pool)),
                settings.conninfo(),
                settings.replica_conninfo,
                wait_seconds=_PATIENCE,
                say=partial(typer.echo, err=True),
            )
        async with open_pool(settings.conninfo(), size=1, wait_seconds=_PATIENCE) as pool:
            return await work(Sagas(pool))

    return asyncio.run(main())
