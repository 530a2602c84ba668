"""Reads Postgres in key order, a few thousand rows at a time.

Each portion is a statement of its own and not a part of one long snapshot: every write is guarded
by the rows' versions, so no common moment is needed, nothing holds the vacuum back for minutes, and
a rebuild that was interrupted goes on after the last key.
"""

import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from audit.compare import is_rejected
from audit.postgres import level_in, overrides_in
from inventory.errors import Outage
from inventory.policy import ChannelOverride
from inventory.stock import StockLevel
from projections.ports import Changes, SkuChanges
from rebuild.portion import Portion
from rebuild.progress import Plan
from sql.queries import load_queries

_QUERIES = load_queries()

#: Rows of a portion; more than a SKU has warehouses.
ROWS = 5_000

#: Seconds that a statement may take: a portion takes milliseconds, the plan sorts all.
_SECONDS, _PLAN_SECONDS = 20.0, 300.0
#: Seconds more, after which a server that did not even say so is out of reach.
_GRACE = 5.0

#: The part with the overrides of SKUs that have no stock.
WITHOUT_STOCK = "without stock"

#: Ends a part that has no upper bound.
_NO_BOUND = ""


def row_plan(conninfo: str, parts: int) -> Plan:
    """Parts of the stock of about one size, each with the SKU that it ends with.

    Raises:
        Outage: Postgres does not answer.
    """
    fractions = [n / parts for n in range(1, parts)]
    with closing(_connected(conninfo, _PLAN_SECONDS)) as connection:
        found = _fetched(connection, _PLAN_SECONDS, "rebuild_bounds", {"fractions": fractions})
        ((rows,),) = _fetched(connection, _PLAN_SECONDS, "rebuild_count", {})
    bounds = [sku for (sku,) in found if sku is not None]
    # The part begins after the bound of the one before it, which its name carries.
    named = {f"after {after}": upto for after, upto in zip(["", *bounds], bounds, strict=False)}
    last = f"after {bounds[-1] if bounds else ''}"
    return Plan({**named, last: _NO_BOUND, WITHOUT_STOCK: _NO_BOUND}, {}, {"whole": str(rows)})


class RowSource:
    """The `rebuild.portion.Source` that reads Postgres; each part is a range of SKUs."""

    def __init__(self, conninfo: str) -> None:
        """Read as a role that may read the schema `inventory`."""
        self._connection = _connected(conninfo, _SECONDS)

    def portions(self, part: str, start: str | None, end: str) -> Iterator[Portion]:
        """See `rebuild.portion.Source.portions`."""
        if part == WITHOUT_STOCK:
            yield from self._without_stock(start or "")
            return
        after = part.removeprefix("after ") if start is None else start
        while True:
            rows = self._rows("rebuild_rows", after=after, upto=end or None, rows=ROWS)
            more = len(rows) == ROWS
            if more:
                # Whole SKUs: the last one may go on.
                rows = [row for row in rows if row[0] != rows[-1][0]] or rows
            if rows:
                after = rows[-1][0]
                yield self._portion(rows, {part: after})
            if not more:
                return

    def of(self, skus: Sequence[str]) -> Changes:
        """All rows and overrides of these SKUs; one without any is not there."""
        rows = self._rows("rebuild_rows_of", skus=list(skus))
        return self._portion(rows, {}, skus).changes

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _without_stock(self, after: str) -> Iterator[Portion]:
        while True:
            rows = self._rows("audit_stockless_page", after=after, skus=ROWS)
            skus = [sku for (sku,) in rows]
            if not skus:
                return
            after = skus[-1]
            yield self._portion([], {WITHOUT_STOCK: after}, skus)

    def _portion(
        self, rows: Sequence[Any], positions: dict[str, str], skus: Sequence[str] = ()
    ) -> Portion:
        levels: dict[str, dict[str, StockLevel]] = {}
        rejected = 0
        for sku, warehouse, *level in rows:
            if is_rejected(sku, warehouse):
                rejected += 1
                continue
            levels.setdefault(sku, {})[warehouse] = level_in(*level)
        overrides = self._overrides(sorted({*levels, *skus}))
        changes = {
            sku: SkuChanges(levels.get(sku, {}), overrides.get(sku, {}))
            for sku in {**levels, **overrides}
            if not is_rejected(sku)
        }
        return Portion(changes, positions, len(rows) or len(changes), rejected)

    def _overrides(self, skus: Sequence[str]) -> dict[str, dict[str, ChannelOverride]]:
        rows = self._rows("rebuild_overrides_of", skus=list(skus))
        found = overrides_in(row[:-1] for row in rows)
        for row in rows:
            own, channel = found[row[1]], row[0]
            own[channel] = own[channel]._replace(committed_us=row[-1])
        return found

    def _rows(self, query: str, **arguments: object) -> list[tuple[Any, ...]]:
        return _fetched(self._connection, _SECONDS, query, arguments)


def _connected(conninfo: str, seconds: float) -> psycopg.Connection:
    try:
        return psycopg.connect(
            conninfo,
            autocommit=True,
            connect_timeout=10,
            options=f"-c statement_timeout={seconds:.0f}s",
            # A prepared statement fails once DDL has changed what it returns.
            prepare_threshold=None,
        )
    except psycopg.OperationalError as exc:
        raise _outage(exc) from exc


def _fetched(
    connection: psycopg.Connection, seconds: float, query: str, arguments: Mapping[str, object]
) -> list[tuple[Any, ...]]:
    try:
        with _bounded(connection, seconds + _GRACE), connection.cursor(binary=True) as cursor:
            return cursor.execute(_QUERIES[query], arguments).fetchall()
    except psycopg.OperationalError as exc:
        raise _outage(exc) from exc


@contextmanager
def _bounded(connection: psycopg.Connection, seconds: float) -> Iterator[None]:
    """Cut the connection if it takes longer: a server that is out of reach ends no statement."""
    cut = threading.Timer(seconds, _cut, [connection])
    cut.daemon = True
    cut.start()
    try:
        yield
    finally:
        cut.cancel()


def _cut(connection: psycopg.Connection) -> None:
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)


def _outage(exc: Exception) -> Outage:
    reason = " ".join(str(exc).split())
    return Outage(
        f"Postgres cannot be read ({reason}): is the stack up (`make up`), and "
        "STOCKWIRE_POSTGRES_DSN right?"
    )
