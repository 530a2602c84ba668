"""Passwords, slots and tables that change under the pipeline."""

import time

import psycopg
from psycopg import sql

from compose.embedded.places import CDC_ROLE
from connectors.apply import CONNECTOR, CONNECTOR_FILE, load_connector
from connectors.client import ConnectClient
from tests.chaos.fault import Timeline
from tests.chaos.faults.onlookers import restarted_by_guardian
from tests.chaos.world import World
from tests.polling import eventually

SLOT = load_connector(CONNECTOR_FILE)["slot.name"]
END_WALSENDER = """
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
WHERE slot_name = %s AND active_pid IS NOT NULL
"""
_END_ROLE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
_READER = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s"
_END = "SELECT pg_terminate_backend(%s)"
_RUNS = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
_ENDED = 5
_SLOT_ACTIVE = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
#: The connector tries for half a minute by itself.
_FAILS_SECONDS = 120.0
_RESTART_SECONDS = 90.0


def wrong_password(world: World, timeline: Timeline) -> None:
    """The role of Connect gets another password, and its old one back once the task has failed."""
    right = world.stack._postgres.password(CDC_ROLE)
    with world.superuser() as connection:
        since, guardian = world.log_size("postgres"), world.log_size("guardian")
        timeline.inject()
        _set_password(connection, "wrong")
        try:
            connection.execute(END_WALSENDER, [SLOT])
            connection.execute(_END_ROLE, [CDC_ROLE])
            refused = f'password authentication failed for user "{CDC_ROLE}"'
            eventually(lambda: world.logged("postgres", refused, since))
            timeline.prove(True, "Postgres refused the password")
            # Connect itself never starts a task again that has failed.
            eventually(lambda: _task_failed(world), timeout=_FAILS_SECONDS)
            timeline.prove(not slot_active(connection), "the task failed, the slot stood idle")
        finally:
            _set_password(connection, right)
    timeline.heal()
    eventually(world.connector_runs, timeout=_RESTART_SECONDS)
    restarted = restarted_by_guardian(world, guardian)
    timeline.prove(restarted, "the guardian restarted the task")


def _task_failed(world: World) -> bool:
    with ConnectClient(str(world.settings.connect_url)) as client:
        status = client.status(CONNECTOR)
    return status is not None and status.failure is not None


def terminate_walsender(world: World, timeline: Timeline) -> None:
    """Postgres ends the replication connection, five times."""
    ended: list[int] = []
    with world.superuser() as connection:

        def ends_another() -> bool:
            row = connection.execute(_READER, [SLOT]).fetchone()
            if row is None or row[0] is None or row[0] in ended:
                return False
            ended.append(row[0])
            connection.execute(_END, [row[0]])
            return True

        timeline.inject()
        for _ in range(_ENDED):
            eventually(ends_another)
        eventually(lambda: not _runs(connection, ended[-1]))
    timeline.heal()
    timeline.prove(len(set(ended)) == _ENDED, f"{_ENDED} replication connections were ended")


def _runs(connection: psycopg.Connection, pid: int) -> bool:
    return connection.execute(_RUNS, [pid]).fetchone() is not None


def slot_active(connection: psycopg.Connection) -> bool:
    """Whether somebody reads from the slot."""
    row = connection.execute(_SLOT_ACTIVE, [SLOT]).fetchone()
    return row is not None and row[0]


def _set_password(connection: psycopg.Connection, password: str) -> None:
    connection.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(CDC_ROLE), sql.Literal(password))
    )


_DDL = (
    "ALTER TABLE inventory.stock ADD COLUMN IF NOT EXISTS chaos_note text DEFAULT 'new'",
    "UPDATE inventory.stock SET chaos_note = 'set', reason = 'ddl' WHERE sku = 'SKU-00001'",
    "ALTER TABLE inventory.stock ALTER COLUMN safety_stock TYPE bigint",
    "ALTER TABLE inventory.stock ALTER COLUMN incoming TYPE bigint",
    "UPDATE inventory.stock SET safety_stock = safety_stock + 1 WHERE sku = 'SKU-00002'",
)
_DDL_BACK = (
    "ALTER TABLE inventory.stock DROP COLUMN IF EXISTS chaos_note",
    "ALTER TABLE inventory.stock ALTER COLUMN safety_stock TYPE integer",
    "ALTER TABLE inventory.stock ALTER COLUMN incoming TYPE integer",
    "UPDATE inventory.stock SET safety_stock = safety_stock - 1 WHERE sku = 'SKU-00002'",
)


def ddl(world: World, timeline: Timeline) -> None:
    """A column is added, types are widened and narrowed, and the column dropped, under load."""
    with world.superuser() as connection:
        # A lock that waits would queue all sales behind it.
        connection.execute("SET lock_timeout = '5s'")
        timeline.inject()
        for statement in (*_DDL, *_DDL_BACK):
            _execute(connection, statement)
            time.sleep(0.5)  # Sales go on between two changes of the table.
    timeline.heal()
    timeline.prove(True, f"{len(_DDL) + len(_DDL_BACK)} statements changed the table and its rows")


def _execute(connection: psycopg.Connection, statement: str) -> None:
    def done() -> bool:
        try:
            connection.execute(statement)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as exc:
            raise AssertionError(str(exc)) from exc
        return True

    eventually(done)


def primary_keys(world: World, timeline: Timeline) -> None:
    """SKUs are renamed, there and back: Debezium makes a delete and an insert of each."""
    rename = "UPDATE inventory.stock SET sku = %s || substr(sku, 5) WHERE sku LIKE %s"
    with world.superuser() as connection:
        timeline.inject()
        there = connection.execute(rename, ["NEW-", "SKU-0000%"]).rowcount
        time.sleep(1.0)  # Seen by everybody under the new names before they go back.
        back = connection.execute(rename, ["SKU-", "NEW-0000%"]).rowcount
    timeline.heal()
    timeline.prove(there > 0 and there == back, f"{there} rows were renamed and back")
