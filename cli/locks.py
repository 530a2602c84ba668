"""`stockwire locks`: who blocks whom, for how long, on which row."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import orjson
import typer
from psycopg.rows import class_row
from rich.console import Console
from rich.table import Table

from audit.postgres import reading
from inventory.settings import load_settings
from sql.queries import load_queries

_QUERIES = load_queries()
#: A report on what stands still must not stand still itself.
_TIMEOUT_MS = 10_000
#: Characters of a statement that are shown.
_STATEMENT = 60


@dataclass(frozen=True, slots=True)
class LockWait:
    """A session that waits, and one that is in its way.

    Attributes:
        waiting_query, blocking_query: what they run now or ran last; Postgres hides another role's.
        blocking_pid: 0 for a prepared transaction, which has no session.
        blocking_state: such as `active` or `idle in transaction`; None where it is hidden.
        blocking_seconds: since its transaction began; None where it is hidden.
        waiting_seconds: since the wait began.
        lock: `transactionid` or `tuple` for a row, `relation` for a whole table, and others.
        ctid: the row's place in its table, where a row is waited for and it is known.
        sku, warehouse: its key, if it is a row of stock.
    """

    waiting_pid: int
    waiting_role: str
    waiting_application: str | None
    waiting_query: str | None
    blocking_pid: int
    blocking_role: str | None
    blocking_application: str | None
    blocking_query: str | None
    blocking_state: str | None
    blocking_seconds: float | None
    waiting_seconds: float
    lock: str
    mode: str
    relation: str | None
    ctid: str | None
    sku: str | None
    warehouse: str | None

    @property
    def row(self) -> str:
        """What is waited for, for people."""
        if self.sku is not None:
            return f"{self.sku} in {self.warehouse}"
        if self.ctid is not None:
            return f"{self.relation} {self.ctid}"
        if self.relation is not None:
            return self.relation
        if self.lock == "transactionid":
            return "the end of another transaction"
        return f"a lock of kind {self.lock}"


def locks(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per wait.")] = False,
) -> None:
    """Show who waits for a lock in Postgres, who is in the way, for how long, and on which row.

    The longest wait comes first. It is asked of the primary: a replica knows nothing of those who
    write. To end a transaction that is in the way: `SELECT pg_terminate_backend(<its pid>)`.
    """
    waits = read_waits(load_settings().conninfo())
    if as_json:
        for wait in waits:
            print(orjson.dumps(asdict(wait)).decode())
        return
    show(waits, Console(markup=False, highlight=False))


def read_waits(conninfo: str) -> list[LockWait]:
    """All waits of this moment, the longest first.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    with reading(conninfo) as connection:
        connection.execute(_QUERIES["lock_report_timeout"], {"milliseconds": _TIMEOUT_MS})
        with connection.cursor(row_factory=class_row(LockWait)) as cursor:
            # Without parameters, psycopg would leave the doubled percent signs as they are.
            return cursor.execute(_QUERIES["lock_waits"], {}).fetchall()


def show(waits: Sequence[LockWait], console: Console) -> None:
    """A table on a terminal, lines elsewhere; then who is at the root of it."""
    if console.is_terminal and waits:
        table = Table("waits", "for", "row", "blocked by", "which is", "and runs")
        for wait in waits:
            table.add_row(
                str(wait.waiting_pid),
                f"{wait.waiting_seconds:.1f} s",
                wait.row,
                str(wait.blocking_pid),
                _doing(wait),
                _statement(wait.blocking_query),
            )
        console.print(table)
    else:
        for wait in waits:
            print(describe(wait))
    print(verdict(waits))


def describe(wait: LockWait) -> str:
    """One wait as a line."""
    return (
        f"{wait.waiting_pid} ({wait.waiting_role}) has waited {wait.waiting_seconds:.1f} s for "
        f"{wait.row}: {wait.blocking_pid} ({wait.blocking_role or 'no session'}) is "
        f"{_doing(wait)}: {_statement(wait.blocking_query)}"
    )


def verdict(waits: Sequence[LockWait]) -> str:
    """How many wait, and the sessions that themselves wait for nobody."""
    waiting = {wait.waiting_pid for wait in waits}
    roots = sorted({wait.blocking_pid for wait in waits} - waiting)
    if not waiting:
        return "Nobody waits for a lock."
    behind = ", ".join(map(str, roots)) or "nobody, they wait for each other"
    return f"{len(waiting):,} wait; at the root of it: {behind}."


def _doing(wait: LockWait) -> str:
    if wait.blocking_state is None:
        return "hidden (another role's)"
    if wait.blocking_seconds is None:
        return wait.blocking_state
    return f"{wait.blocking_state}, transaction of {wait.blocking_seconds:.1f} s"


def _statement(query: str | None) -> str:
    text = " ".join((query or "-").split())
    return text if len(text) <= _STATEMENT else f"{text[: _STATEMENT - 1]}…"
