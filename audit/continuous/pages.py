"""Reads Postgres piece by piece, each in a short transaction of its own, on one connection."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeAlias

import psycopg
from psycopg import IsolationLevel

from audit.compare import StockSnapshot
from audit.postgres import overrides_in, policies_of, refusals, snapshot_of
from inventory.errors import Outage
from inventory.policy import ChannelPolicy
from sql.queries import load_queries

_QUERIES = load_queries()

#: Nothing that is read here takes long; a table that is locked must not hang the auditor.
_OPTIONS = "-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s"


#: Kind, name and version: of all that a SKU's numbers are made of, policies included.
Versions: TypeAlias = frozenset[tuple[str, str, int]]


class Page(NamedTuple):
    """Some SKUs at one moment; `last` is where the next page begins, None after the last one."""

    stock: StockSnapshot
    last: str | None


class Moment(NamedTuple):
    """Some SKUs, and when that was on Postgres' clock, in µs since the epoch.

    Attributes:
        deleted: by SKU, the versions of its rows and overrides that were deleted last.
    """

    stock: StockSnapshot
    now_us: int
    deleted: Mapping[str, Versions]


class Drawn(NamedTuple):
    """The last versions that Postgres has given out: to rows of stock, and to policies."""

    stock: int
    policy: int


class Pages:
    """Postgres, for the auditor; connects anew where the connection is lost.

    Every method raises `Outage` when Postgres does not answer, `AuditError` when it refuses. That
    it does not say what it has drawn is an `Outage`, too: all but healing goes on without.
    """

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.Connection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def policies(self) -> tuple[ChannelPolicy, ...]:
        """All channels, by name."""
        with self._reading() as connection, connection.transaction():
            return policies_of(connection)

    def page(self, after: str, skus: int) -> Page:
        """The next SKUs that have stock, in Postgres' order."""
        about = {"after": after, "skus": skus}
        with self._reading() as connection, connection.transaction():
            policies = policies_of(connection)
            rows = connection.cursor(binary=True).execute(_QUERIES["audit_page"], about).fetchall()
            if not rows:
                return Page(StockSnapshot({}, policies), None)
            stock = self._snapshot(connection, rows, policies, {row[0] for row in rows})
            return Page(stock, rows[-1][0])

    def stockless(self, after: str, skus: int) -> list[str]:
        """The next SKUs that have no stock, and yet something of their own on a channel."""
        about = {"after": after, "skus": skus}
        with self._reading() as connection:
            rows = connection.execute(_QUERIES["audit_stockless_page"], about)
            return [sku for (sku,) in rows]

    def of(self, skus: Iterable[str]) -> Moment:
        """These SKUs, as of one moment."""
        wanted = list(skus)
        with self._reading() as connection, connection.transaction():
            (now_us,) = connection.execute(_QUERIES["explain_moment"]).fetchall()[0]
            policies = policies_of(connection)
            cursor = connection.cursor(binary=True)
            rows = cursor.execute(_QUERIES["audit_stock_of"], {"skus": wanted}).fetchall()
            stock = self._snapshot(connection, rows, policies, wanted)
            gone = connection.execute(_QUERIES["audit_deletions_of"], {"skus": wanted})
            deleted: dict[str, set[tuple[str, str, int]]] = {}
            for sku, kind, name, version in gone:
                deleted.setdefault(sku, set()).add((kind, name, version))
            return Moment(stock, now_us, {sku: frozenset(of) for sku, of in deleted.items()})

    def known(self, skus: Sequence[str]) -> set[str]:
        """Those of these SKUs that Postgres has."""
        with self._reading() as connection:
            rows = connection.execute(_QUERIES["audit_known"], {"skus": list(skus)})
            return {sku for (sku,) in rows}

    def condition(self, skus: Sequence[str]) -> str:
        """An SQL condition for just these SKUs."""
        with self._reading() as connection:
            rows = connection.execute(_QUERIES["audit_condition"], {"skus": list(skus)})
            return str(rows.fetchall()[0][0])

    def drawn(self) -> Drawn:
        """Which versions can be Postgres' own: none of a row that is there is higher."""
        with self._reading() as connection:
            last = dict(connection.execute(_QUERIES["audit_drawn"]).fetchall())
        stock, policy = last.get("stock_version"), last.get("policy_version")
        if stock is None or policy is None:
            raise Outage(
                "Nothing is healed, as Postgres does not say which versions it has drawn. As the "
                "owner: GRANT USAGE ON SEQUENCE inventory.stock_version, inventory.policy_version "
                "TO stockwire_app"
            )
        return Drawn(stock, policy)

    def warehouse(self) -> str | None:
        """The code of some warehouse."""
        with self._reading() as connection:
            row = connection.execute(_QUERIES["audit_warehouse"]).fetchone()
        return None if row is None else str(row[0])

    def _snapshot(
        self,
        connection: psycopg.Connection,
        rows: Iterable[tuple[object, ...]],
        policies: tuple[ChannelPolicy, ...],
        skus: Iterable[str],
    ) -> StockSnapshot:
        own = connection.execute(_QUERIES["audit_overrides_of"], {"skus": list(skus)})
        return snapshot_of(rows, policies, overrides_in(own))

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection]:
        with refusals():
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self._conninfo,
                    connect_timeout=10,
                    options=_OPTIONS,
                    autocommit=True,
                    # A prepared statement fails once DDL has changed what it returns.
                    prepare_threshold=None,
                )
                self._connection.isolation_level = IsolationLevel.REPEATABLE_READ
                self._connection.read_only = True
            try:
                yield self._connection
            except psycopg.Error:
                self.close()
                raise
