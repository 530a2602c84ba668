"""`stockwire reserve` and `stockwire reservation`: the write side by hand."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid4

import orjson
import typer
import uvloop

from cli.quiet import quietly
from inventory.errors import NotFound
from inventory.settings import load_settings
from reservations.basket import (
    HOLD_SECONDS,
    Answer,
    Closed,
    Granted,
    Line,
    Refused,
    Sourcing,
    Strategy,
)
from reservations.basket import Reserve as Basket
from reservations.pool import open_pool
from reservations.reads import find_reservation, read
from reservations.service import Reservations
from reservations.strategies import TAKERS

T = TypeVar("T")

#: Somebody sits before it: so long, in seconds, Postgres has to answer.
WAIT_SECONDS = 10.0
#: Exit code when nothing was done; 1 is an outage, 2 typer's for wrong options.
_REFUSED = 3

app = typer.Typer(
    name="reservation",
    help="Confirm, release or show a reservation.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Id = Annotated[UUID, typer.Argument(metavar="ID", help="As `stockwire reserve` has printed it.")]
_Caller = Annotated[str, typer.Option(help="Who asks; keys are each caller's own.")]
_Key = Annotated[
    str | None,
    typer.Option(help="Idempotency key: sent again, no second effect. A new one when left out."),
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


def reserve(
    lines: Annotated[
        list[str], typer.Argument(metavar="SKU=QTY...", help="E.g. SKU-00001=2 SKU-00007=1.")
    ],
    reference: Annotated[str, typer.Option(help="The order's number.")],
    key: _Key = None,
    caller: _Caller = "cli",
    strategy: Annotated[
        Strategy, typer.Option(help="How units are taken: optimistic or pessimistic.")
    ] = Strategy.OPTIMISTIC,
    sourcing: Annotated[
        Sourcing, typer.Option(help="Which warehouses are chosen.")
    ] = Sourcing.PRIORITY,
    warehouse: Annotated[
        list[str] | None,
        typer.Option(help="Only this one; may be repeated, the first comes first."),
    ] = None,
    hold_seconds: Annotated[
        float, typer.Option(help="How long the units are held.")
    ] = HOLD_SECONDS,
    as_json: _Json = False,
) -> None:
    """Hold all units of a basket, or nothing.

    Exit code 0 when they are held, 3 when it is refused, 1 when Postgres does not answer.

    Example: `stockwire reserve SKU-00001=2 SKU-00007=1 --reference ORD-1 --key ORD-1`
    """
    if strategy not in TAKERS:
        raise typer.BadParameter(
            f"{strategy} is for flash sales, which a service opens; see docs/reservations.md."
        )
    try:
        request = Basket(
            caller,
            key or str(uuid4()),
            reference,
            tuple(map(parse_line, lines)),
            hold_seconds,
            sourcing,
            tuple(warehouse or ()),
        )
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    _tell(_with_reservations(lambda service: service.reserve(request, strategy)), as_json=as_json)


@app.command("confirm")
def confirm(
    reservation: _Id, key: _Key = None, caller: _Caller = "cli", as_json: _Json = False
) -> None:
    """Sell what is held: the units leave. Exit codes as `stockwire reserve`."""
    answer = _with_reservations(
        lambda service: service.confirm(reservation, caller=caller, key=key or str(uuid4()))
    )
    _tell(answer, as_json=as_json)


@app.command("release")
def release(
    reservation: _Id, key: _Key = None, caller: _Caller = "cli", as_json: _Json = False
) -> None:
    """Let go what is held: the units are free again. Exit codes as `stockwire reserve`."""
    answer = _with_reservations(
        lambda service: service.release(reservation, caller=caller, key=key or str(uuid4()))
    )
    _tell(answer, as_json=as_json)


@app.command("show")
def show(
    reservation: _Id,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask the primary, not a replica that may be behind.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Show a reservation and its lines; exit code 1 when there is none."""
    settings = load_settings()
    with quietly():
        found = uvloop.run(
            read(
                lambda pool: find_reservation(pool, reservation),
                settings.conninfo(),
                None if fresh else settings.replica_conninfo,
                wait_seconds=WAIT_SECONDS,
                say=partial(typer.echo, err=True),
            )
        )
    if found is None:
        raise NotFound(f"There is no reservation {reservation}.")
    if as_json:
        print(orjson.dumps(found).decode())
        return
    when = f"until {found['held_until']:%d %b %H:%M:%S}"
    if found["closed_at"] is not None:
        when = f"since {found['closed_at']:%d %b %H:%M:%S}"
    print(
        f"{reservation}  {found['status']} {when}  {found['reference']} of {found['caller']} "
        f"({found['strategy']})"
    )
    for line in found["lines"]:
        print(f"  {line['quantity']:,} × {line['sku']} in {line['warehouse']}")


def parse_line(text: str) -> Line:
    """A line of a basket from `SKU=QTY`; the last equals sign ends the SKU.

    Raises:
        ValueError: it is not one.
    """
    sku, sign, quantity = text.rpartition("=")
    if not sign or not sku or not quantity.isascii() or not quantity.isdigit():
        raise ValueError(f"{text!r} is no line of a basket; write it as SKU-00001=2")
    return Line(sku, int(quantity))


def as_dict(answer: Answer) -> dict[str, Any]:
    """An answer as JSON shows it."""
    match answer:
        case Granted():
            return {"granted": True, **_fields(answer)}
        case Closed():
            versions = [
                {"sku": sku, "warehouse": warehouse, "version": version}
                for (sku, warehouse), version in sorted(answer.versions.items())
            ]
            return {"done": True, "reservation": str(answer.reservation), "versions": versions}
        case Refused():
            return {"refused": answer.reason.value, "short": _fields(answer)["short"]}


def describe(answer: Answer) -> str:
    """An answer for people."""
    match answer:
        case Granted():
            first = f"{answer.reservation}  held until {answer.held_until:%d %b %H:%M:%S %Z}"
            rows = (
                f"  {held.quantity:,} × {held.sku} in {held.warehouse}  version {held.version}"
                for held in answer.held
            )
            return "\n".join([first, *rows])
        case Closed():
            rows = (
                f"  {sku} in {warehouse}  version {version}"
                for (sku, warehouse), version in sorted(answer.versions.items())
            )
            return "\n".join([f"{answer.reservation}  done", *rows])
        case Refused():
            rows = (
                f"  {short.sku}: {short.wanted:,} wanted, {short.available:,} there"
                for short in answer.short
            )
            return "\n".join([f"refused: {answer.reason.value.replace('_', ' ')}", *rows])


def _fields(answer: Granted | Refused) -> dict[str, Any]:
    return dict(orjson.loads(orjson.dumps(answer)))


def _tell(answer: Answer, *, as_json: bool) -> None:
    print(orjson.dumps(as_dict(answer)).decode() if as_json else describe(answer))
    if isinstance(answer, Refused):
        raise typer.Exit(_REFUSED)


def _with_reservations(do: Callable[[Reservations], Awaitable[T]]) -> T:
    """Do one thing on one connection; raises Outage when Postgres does not answer."""

    async def run() -> T:
        async with open_pool(
            load_settings().conninfo(), size=1, wait_seconds=WAIT_SECONDS, name="stockwire-cli"
        ) as pool:
            return await do(Reservations(pool))

    with quietly():
        return uvloop.run(run())
