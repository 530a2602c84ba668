"""Postgres forgets what the connector has not read: the slot is gone, or its WAL is."""

import os
import subprocess
import sys

import psycopg

from tests.chaos.alter_system import alter_system
from tests.chaos.fault import Timeline
from tests.chaos.faults.postgres import END_WALSENDER, SLOT, slot_active
from tests.chaos.world import World
from tests.conftest import ROOT
from tests.polling import eventually

_KEEP = "max_slot_wal_keep_size"
_DROP = "SELECT pg_drop_replication_slot(%s)"
_STATUS = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s"
_WRITE_MB = "SELECT pg_logical_emit_message(false, 'chaos', repeat('x', 1000000))"
_MB = 200


def slot_dropped(world: World, timeline: Timeline) -> None:
    """The slot is dropped under the running connector; changes go on."""
    with world.superuser() as connection:
        timeline.inject()

        def dropped() -> bool:
            connection.execute(END_WALSENDER, [SLOT])
            try:
                connection.execute(_DROP, [SLOT])
            except psycopg.errors.ObjectInUse as exc:
                raise AssertionError(str(exc)) from exc
            return True

        eventually(dropped)
        gone = connection.execute(_STATUS, [SLOT]).fetchone() is None
        timeline.prove(gone, "the slot did not exist")
        recover(world, connection)
    timeline.heal()


def wal_removed(world: World, timeline: Timeline) -> None:
    """Connect is away while more WAL is written than the slot may hold back."""
    with world.superuser() as connection:
        alter_system(connection, {_KEEP: "64MB"})
        timeline.inject()
        try:
            world.stack.stop_part("connect")

            def lost() -> bool:
                for _ in range(_MB):
                    connection.execute(_WRITE_MB)
                connection.execute("CHECKPOINT")
                row = connection.execute(_STATUS, [SLOT]).fetchone()
                return row is not None and row[0] == "lost"

            eventually(lost, timeout=120)
            timeline.prove(True, "wal_status of the slot was `lost`")
        finally:
            alter_system(connection, {_KEEP: None})
            world.stack.start_part("connect")
        recover(world, connection)
    timeline.heal()


def recover(world: World, primary: psycopg.Connection) -> None:
    """What the runbook says: one command; the connector reads from a slot when it returns."""
    environment = {
        name: value
        for name, value in world.process("availability").environ().items()
        if name.startswith("STOCKWIRE_") and name != "STOCKWIRE_HEALTH_PORT"
    }
    result = subprocess.run(
        [sys.executable, "-c", "from cli.main import run; run()", "recover", "slot", "--yes"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    eventually(lambda: slot_active(primary))
