"""A second Postgres: a standby of the stack's, to be promoted and to take its place."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from compose.embedded import account
from compose.embedded.postgres import _SETTINGS, SUPERUSER, Postgres
from compose.embedded.supervisord import base_environment
from tests.chaos.alter_system import alter_system
from tests.chaos.ports import DIRECT, HOST, STANDBY_PORT
from tests.chaos.proxied_stack import SECOND
from tests.chaos.world import World
from tests.polling import eventually

SLOT = "chaos_standby"
_NEW_SLOT = "SELECT pg_create_physical_replication_slot(%s, true)"
_DROP_SLOT = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE slot_name = %s AND NOT active
"""
_SLOT = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s"
_STREAMS = "SELECT status = 'streaming' FROM pg_stat_wal_receiver"
#: `sync_replication_slots` keeps the logical slots of the primary that are marked for failover.
_SYNC = {"sync_replication_slots": "on", "hot_standby_feedback": "on"}
_SYNCHRONOUS = ("synchronous_standby_names", "synchronized_standby_slots")
_STOP_SECONDS = 60


class SecondPostgres:
    """A standby beside the stack's Postgres, in the same account."""

    def __init__(self, world: World, *, syncs_slots: bool) -> None:
        self._world = world
        self._postgres: Postgres = world.stack._postgres
        self._account = self._postgres._account
        self._syncs_slots = syncs_slots
        self._process: subprocess.Popen[bytes] | None = None
        self.data: Path = self._postgres.data.with_name(SECOND)

    def start(self) -> None:
        """Copy the primary and follow it; returns once it streams."""
        with self._world.superuser() as primary:
            primary.execute(_NEW_SLOT, [SLOT])
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        account.give(self.data, self._account)
        # With a database in it: the worker that synchronises slots needs one.
        conninfo = (
            f"host={HOST} port={DIRECT.postgres} user={SUPERUSER} dbname=stockwire "
            f"password={self._postgres.password(SUPERUSER)}"
        )
        copy = ("-d", conninfo, "-D", str(self.data), "-R", "-S", SLOT, "-c", "fast")
        self._run("pg_basebackup", *copy)
        settings = {**_SETTINGS, "port": str(STANDBY_PORT), **(_SYNC if self._syncs_slots else {})}
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [str(self._postgres._bin / "postgres"), "-D", str(self.data), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            **self._as_account(),
        )
        eventually(self._streams)

    def connect(self) -> psycopg.Connection:
        """As its owner, in autocommit."""
        passfile = self._world.stack.places.passfile
        return psycopg.connect(
            f"host={HOST} port={STANDBY_PORT} user={SUPERUSER} dbname=stockwire "
            f"passfile={passfile}",
            autocommit=True,
            connect_timeout=5,
        )

    def promote(self) -> None:
        """Make it the primary."""
        with self.connect() as connection:
            connection.execute("SELECT pg_promote()")

    def give_up(self) -> None:
        """Stop it, and let the primary go on without it."""
        self.stop()
        with self._world.superuser() as primary:
            alter_system(primary, dict.fromkeys(_SYNCHRONOUS))
            eventually(lambda: primary.execute(_DROP_SLOT, [SLOT]) and not _has_slot(primary))
        shutil.rmtree(self.data, ignore_errors=True)

    def take_the_place(self) -> None:
        """Stop it, and let the stack's Postgres go on with its data, on the stack's port."""
        self.stop()
        place = self._postgres.data
        shutil.rmtree(place)
        self.data.rename(place)
        self._world.stack.start_part("postgres")

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                # Others come after it, and wait for what it keeps.
                self._process.kill()
                self._process.wait(_STOP_SECONDS)

    def _streams(self) -> bool:
        try:
            with self.connect() as connection:
                row = connection.execute(_STREAMS).fetchone()
        except psycopg.OperationalError as exc:
            raise AssertionError(str(exc)) from exc
        return row is not None and row[0]

    def _run(self, program: str, *arguments: str) -> None:
        begun = time.monotonic()
        result = subprocess.run(
            [str(self._postgres._bin / program), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
            **self._as_account(),
        )
        spent = time.monotonic() - begun
        assert result.returncode == 0, f"{program} after {spent:.0f} s: {result.stdout}"

    def _as_account(self) -> dict:
        environment = base_environment(self._world.stack.places)
        home = {"HOME": str(self.data), "TMPDIR": str(self.data)}
        common = {"env": environment | home, "cwd": "/"}
        if self._account is None:
            return common
        return common | {
            "user": self._account.uid,
            "group": self._account.gid,
            "extra_groups": [],
        }


def _has_slot(primary: psycopg.Connection) -> bool:
    return primary.execute(_SLOT, [SLOT]).fetchone() is not None
