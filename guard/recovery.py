"""A lost slot and a restored database, made good without a gap.

Each recovery ends with the snapshot and the missed deletes in Kafka, and the workers through them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from connectors.apply import CONNECTOR
from connectors.client import ConnectClient
from guard.checks.versions import RECOVER_DATABASE, set_back
from guard.facts_connect import stored_position
from guard.facts_postgres import (
    open_database,
    read_stock_version,
    read_stop,
    read_wal_position,
)
from guard.facts_redis import open_redis
from guard.ghosts import bury_ghosts
from guard.steps import (
    Say,
    Snapshot,
    drop_slot,
    forget_offsets,
    stop_connector,
    wait_for_workers,
)
from guard.versions import raise_versions, restamp, told_versions
from inventory.errors import ConnectorError, StackError
from inventory.settings import Settings
from projections.checkpoint import read_checkpoints
from sql.queries import load_queries

_QUERIES = load_queries()


def recover_slot(settings: Settings, say: Say) -> None:
    """Replace a lost or dropped slot: a new one, and a snapshot through it.

    Outbox events of the gap are published from their rows, so some may be published twice, by the
    same id. Safe to run again, whichever step it was interrupted at.

    Raises:
        ConnectorError: the database is older than what was told: that is another recovery; or
            Connect refuses, or the snapshot fails.
        StackError: Postgres refuses, or something does not get there in time.
        Outage: Redis or Kafka does not answer.
    """
    with _opened(settings) as (admin, connect):
        say("versions: comparing the database with what was told")
        why = _why_not(settings, admin, connect)
        if why is not None:
            raise ConnectorError(
                f"A new slot alone would not help: {why}. Run `{RECOVER_DATABASE}` instead."
            )
        _replace(settings, admin, connect, say)


def recover_database(settings: Settings, say: Say) -> None:
    """Let a database that was restored from an old backup be the truth again.

    Its version sequences are set above everything that was told, and all its rows get new versions:
    what it says now wins over what was told. Safe to run again, whichever step it was interrupted
    at; the line stays stopped until every row has its new version, and then the snapshot begins.

    Raises:
        ConnectorError: Connect refuses, or the snapshot fails.
        StackError: Postgres refuses, or something does not get there in time.
        Outage: Redis or Kafka does not answer.
    """
    with _opened(settings) as (admin, connect):
        reason = _why_not(settings, admin, connect) or "recovery is under way"
        # The sequences are the evidence, and they change now.
        admin.execute(_QUERIES["stop_line"], {"reason": reason})
        # What the topics say stands still from here on.
        stop_connector(connect, say)
        told = told_versions(settings, say)
        raise_versions(admin, told, say)
        restamp(admin, told, say)
        _replace(settings, admin, connect, say, lambda: admin.execute(_QUERIES["go_on"]))


def _replace(
    settings: Settings,
    admin: psycopg.Connection,
    connect: ConnectClient,
    say: Say,
    before_resuming: Callable[[], object] = lambda: None,
) -> None:
    stop_connector(connect, say)
    forget_offsets(connect, say)
    drop_slot(admin, say)
    snapshot = Snapshot(settings.kafka_bootstrap, admin)
    before_resuming()
    snapshot.take(connect, say)
    bury_ghosts(settings.kafka_bootstrap, admin, say)
    wait_for_workers(settings.kafka_bootstrap, say)


def _why_not(settings: Settings, admin: psycopg.Connection, connect: ConnectClient) -> str | None:
    """Why the database is older than what was told, or None."""
    stop = read_stop(admin)
    if stop is not None:
        return stop.reason
    with open_redis(str(settings.redis_url)) as redis:
        told = read_checkpoints(redis).version
    read = stored_position(connect.offsets(CONNECTOR))
    return set_back(
        stock_version=read_stock_version(admin),
        told_version=told,
        wal_position=read_wal_position(admin),
        read_position=read,
    )


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[psycopg.Connection, ConnectClient]]:
    """Postgres as the owner, and Connect."""
    try:
        with (
            open_database(settings.conninfo(settings.postgres_admin_user), None) as admin,
            ConnectClient(str(settings.connect_url)) as connect,
        ):
            yield admin, connect
    except psycopg.Error as exc:
        raise StackError(
            f"Postgres refused a step of the recovery: {' '.join(str(exc).split())}. Mend that and "
            "run this again; it goes on where it was."
        ) from exc
