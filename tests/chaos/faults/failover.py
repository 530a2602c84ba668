"""The primary Postgres dies, and a standby takes over; clients are led there by the proxy."""

import signal

import psutil
import psycopg

from tests.chaos.alter_system import alter_system
from tests.chaos.fault import Timeline
from tests.chaos.faults.postgres import SLOT, slot_active
from tests.chaos.faults.wal import recover
from tests.chaos.ports import DIRECT, STANDBY_PORT
from tests.chaos.second_postgres import SLOT as STANDBY_SLOT
from tests.chaos.second_postgres import SecondPostgres
from tests.chaos.world import Watched
from tests.polling import eventually

_SYNCED = "SELECT synced AND NOT temporary FROM pg_replication_slots WHERE slot_name = %s"


def failover(world: Watched, timeline: Timeline, synced: bool) -> None:
    """With or without the connector's slot on the standby.

    Commits wait for the standby, so that none is lost with the primary: that is Postgres' part.
    """
    second, gone = SecondPostgres(world, syncs_slots=synced), False
    try:
        second.start()
        with world.superuser() as primary:
            # By name: to `*` Debezium is a standby too, and waits for its own heartbeat's commit.
            settings: dict[str, str | None] = {"synchronous_standby_names": "walreceiver"}
            if synced:
                # The connector is told of nothing that the standby does not have.
                settings["synchronized_standby_slots"] = STANDBY_SLOT
            alter_system(primary, settings)
        if synced:
            with second.connect() as connection:
                eventually(lambda: _is_synced(connection), timeout=90)
        timeline.inject()
        gone = True
        _end_at_once(world)
        second.promote()
        world.proxy.route("postgres", STANDBY_PORT)
        with second.connect() as connection:
            found = connection.execute(_SYNCED, [SLOT]).fetchone()
            timeline.prove((found is not None) == synced, f"slot on the new primary: {synced}")
            (recovering,) = connection.execute("SELECT pg_is_in_recovery()").fetchone()
            timeline.prove(not recovering, f"the standby on port {STANDBY_PORT} was promoted")
            if not synced:
                recover(world, connection)
        timeline.heal()
        assert world.probe.wait_until_fresh(120), "not fresh on the new primary"
    finally:
        if gone:
            try:
                second.take_the_place()
            finally:
                world.proxy.route("postgres", DIRECT.postgres)
        else:
            second.give_up()
    with world.superuser() as connection:
        eventually(lambda: slot_active(connection), timeout=120)


def _is_synced(connection: psycopg.Connection) -> bool:
    row = connection.execute(_SYNCED, [SLOT]).fetchone()
    return row is not None and row[0]


def _end_at_once(world: Watched) -> None:
    """Kill -9 of all of it, and no restart: the machine is gone."""
    main = world.process("postgres")
    family = [main, *main.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    # supervisord is told first: it would start it again.
    world.stack._supervisor.stop_program("postgres", wait=False)
    for process in family:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)
    eventually(lambda: world.pid("postgres") is None)
