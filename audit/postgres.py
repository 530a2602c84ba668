"""Reads Postgres for an audit: everything as of one moment."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg import IsolationLevel

from audit.compare import StockSnapshot, is_rejected
from audit.report import Key
from inventory.errors import AuditError, Outage
from inventory.policy import ChannelKind, ChannelOverride, ChannelPolicy, share_units
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
    """All of `inventory.stock` and of the policies, in one repeatable-read snapshot.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    with reading(conninfo) as connection:
        policies = policies_of(connection)
        overrides = overrides_in(connection.execute(_QUERIES["channel_overrides"]))
        with connection.cursor(name="audit_stock", binary=True) as cursor:
            cursor.itersize = _ROWS_PER_TRIP
            return snapshot_of(cursor.execute(_QUERIES["audit_stock"]), policies, overrides)


def snapshot_of(
    rows: Iterable[tuple[Any, ...]],
    policies: tuple[ChannelPolicy, ...],
    overrides: Mapping[str, Mapping[str, ChannelOverride]],
) -> StockSnapshot:
    """A snapshot of rows that have the columns of `audit_stock`."""
    levels: dict[str, dict[str, StockLevel]] = {}
    echoes: dict[Key, str] = {}
    rejected = 0
    own = {policy.echo_of for policy in policies if policy.echo_of is not None}
    for row in rows:
        sku, warehouse, *level, cause = row
        if is_rejected(sku, warehouse):
            rejected += 1
            continue
        levels.setdefault(sku, {})[warehouse] = level_in(*level)
        if cause in own:
            echoes[Key(sku, warehouse)] = cause
    return StockSnapshot(levels, policies, rejected, overrides, echoes)


def level_in(
    on_hand: int,
    reserved: int,
    safety_stock: int,
    incoming: int,
    incoming_at: datetime | None,
    version: int,
    committed_us: int,
) -> StockLevel:
    """The level in a row of `audit_stock` or `rebuild_rows`, from its third column on."""
    arrives = None if incoming_at is None else milliseconds(incoming_at)
    return StockLevel(on_hand, reserved, safety_stock, incoming, arrives, version, committed_us)


def read_latest_change(conninfo: str) -> RowVersion | None:
    """The row with the highest version; None if there are no rows.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    with reading(conninfo) as connection:
        row = connection.execute(_QUERIES["audit_latest_change"]).fetchone()
    return None if row is None else RowVersion(*row)


def read_policies(conninfo: str) -> tuple[ChannelPolicy, ...]:
    """All channels, by name.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    with reading(conninfo) as connection:
        return policies_of(connection)


def policies_of(connection: psycopg.Connection) -> tuple[ChannelPolicy, ...]:
    """All channels, by name."""
    return tuple(
        ChannelPolicy(
            name,
            ChannelKind(kind),
            topic,
            None if warehouses is None else tuple(warehouses),
            buffer,
            share_units(share),
            *rest,
        )
        for name, kind, topic, warehouses, buffer, share, *rest in connection.execute(
            _QUERIES["channel_policies"]
        )
    )


def overrides_in(rows: Iterable[tuple[Any, ...]]) -> dict[str, dict[str, ChannelOverride]]:
    """By SKU and channel, the overrides in rows that have the columns of `channel_overrides`."""
    overrides: dict[str, dict[str, ChannelOverride]] = {}
    for row in rows:
        channel, sku, buffer, share, threshold, hysteresis, limit, backorder, *rest, version = row
        overrides.setdefault(sku, {})[channel] = ChannelOverride(
            version,
            0,
            buffer,
            None if share is None else share_units(share),
            threshold,
            hysteresis,
            limit,
            backorder,
            *rest,
        )
    return overrides


@contextmanager
def reading(conninfo: str) -> Iterator[psycopg.Connection]:
    """A connection that reads, all of it as of one moment.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    with refusals(), psycopg.connect(conninfo, connect_timeout=10) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield connection


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the errors of Postgres into ours.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    try:
        yield
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
