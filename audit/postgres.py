"""Reads Postgres for an audit: everything as of one moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psycopg
from psycopg import IsolationLevel

from audit.compare import StockSnapshot, is_rejected
from inventory.availability import ChannelKind, ChannelPolicy, share_units
from inventory.errors import AuditError, Outage
from inventory.stock import StockLevel, milliseconds
from sql.queries import load_queries

_QUERIES = load_queries()
_ROWS_PER_TRIP = 10_000


class RowVersion(NamedTuple):
    """A stock row as of one version."""

    sku: str
    warehouse: str
    version: int


def read_stock(conninfo: str) -> StockSnapshot:
    """All of `inventory.stock` and `inventory.channel`, in one repeatable-read snapshot.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    levels: dict[str, dict[str, StockLevel]] = {}
    rejected = 0
    with _connection(conninfo) as connection:
        policies = _policies(connection)
        with connection.cursor(name="audit_stock", binary=True) as cursor:
            cursor.itersize = _ROWS_PER_TRIP
            for row in cursor.execute(_QUERIES["audit_stock"]):
                sku, warehouse, on_hand, reserved, safety, incoming, arrives, version, at_us = row
                if is_rejected(sku, warehouse):
                    rejected += 1
                    continue
                incoming_at = None if arrives is None else milliseconds(arrives)
                levels.setdefault(sku, {})[warehouse] = StockLevel(
                    on_hand, reserved, safety, incoming, incoming_at, version, at_us
                )
    return StockSnapshot(levels, policies, rejected)


def read_latest_change(conninfo: str) -> RowVersion | None:
    """The row with the highest version; None if there are no rows.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    with _connection(conninfo) as connection:
        row = connection.execute(_QUERIES["audit_latest_change"]).fetchone()
    return None if row is None else RowVersion(*row)


def read_policies(conninfo: str) -> tuple[ChannelPolicy, ...]:
    """All channels, by name.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    with _connection(conninfo) as connection:
        return _policies(connection)


def _policies(connection: psycopg.Connection) -> tuple[ChannelPolicy, ...]:
    return tuple(
        ChannelPolicy(
            name,
            ChannelKind(kind),
            topic,
            None if warehouses is None else frozenset(warehouses),
            buffer,
            share_units(share),
            threshold,
        )
        for name, kind, topic, warehouses, buffer, share, threshold in connection.execute(
            _QUERIES["channel_policies"]
        )
    )


@contextmanager
def _connection(conninfo: str) -> Iterator[psycopg.Connection]:
    try:
        with psycopg.connect(conninfo, connect_timeout=10) as connection:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield connection
    except psycopg.OperationalError as exc:
        raise Outage(
            f"Postgres cannot be reached ({_text(exc)}): is the stack up (`make up`), and "
            "STOCKWIRE_POSTGRES_DSN right?"
        ) from exc
    except psycopg.Error as exc:
        raise AuditError(
            f"Postgres cannot be audited ({_text(exc)}): has it been migrated (`make up`), and may "
            "the role of STOCKWIRE_POSTGRES_DSN read the schema inventory?"
        ) from exc


def _text(exc: Exception) -> str:
    return " ".join(str(exc).split())
