"""`stockwire locks` against sessions that really wait for each other."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import orjson
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from typer.testing import CliRunner

from cli.locks import LockWait, describe, read_waits, verdict
from cli.main import app
from sql.migrate import migrate
from tests.database import fresh_database
from tests.polling import eventually

pytestmark = pytest.mark.integration

TAKE = (
    "UPDATE inventory.stock SET reserved = reserved + 1, reason = 'reserve' "
    "WHERE sku = %s AND warehouse = 'W1'"
)


@pytest.fixture(scope="module")
def admin(stack, settings) -> Iterator[str]:
    with fresh_database(settings) as admin:
        migrate(admin)
        with psycopg.connect(admin) as connection:
            connection.execute("INSERT INTO inventory.warehouse VALUES ('W1', 'One')")
            connection.execute(
                "INSERT INTO inventory.stock (sku, warehouse, on_hand) "
                "VALUES ('HOT', 'W1', 9), ('COLD', 'W1', 9)"
            )
        yield admin


@pytest.fixture
def database(admin, settings) -> str:
    """The application's own login: what is hidden goes by who has logged in, not by SET ROLE."""
    return make_conninfo(settings.conninfo(), dbname=conninfo_to_dict(admin)["dbname"])


@contextmanager
def waiting(conninfo: str, statement: str, *values: str) -> Iterator[int]:
    """A session that runs a statement, which does not return for now; yields its pid."""
    with psycopg.connect(conninfo) as connection:

        def run() -> None:
            connection.execute(statement, values)
            connection.rollback()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield connection.info.backend_pid
        finally:
            thread.join(30)
            assert not thread.is_alive()


def waits_of(conninfo: str, number: int) -> list[LockWait]:
    """The waits, once there are so many."""

    def found() -> list[LockWait] | None:
        waits = read_waits(conninfo)
        return waits if len({wait.waiting_pid for wait in waits}) == number else None

    return eventually(found)


def test_nobody_waits(database):
    assert read_waits(database) == []
    assert verdict([]) == "Nobody waits for a lock."


def test_a_row_of_stock_is_named_and_who_holds_it(database):
    with ExitStack() as doors, psycopg.connect(database) as holder:
        holder.execute(TAKE, ["HOT"])
        one = doors.enter_context(waiting(database, TAKE, "HOT"))
        (wait,) = waits_of(database, 1)
        later = eventually(lambda: _longer(read_waits(database), wait))
        pid = holder.info.backend_pid
        holder.rollback()
    assert (wait.waiting_pid, wait.blocking_pid) == (one, pid)
    assert (wait.sku, wait.warehouse, wait.relation) == ("HOT", "W1", "inventory.stock")
    assert wait.row == "HOT in W1"
    assert wait.blocking_state == "idle in transaction"
    assert wait.blocking_query is not None
    assert "reserved + 1" in wait.blocking_query
    assert 0 <= wait.waiting_seconds < later.waiting_seconds
    assert wait.blocking_seconds is not None
    assert wait.blocking_seconds >= wait.waiting_seconds


def _longer(waits: list[LockWait], than: LockWait) -> LockWait | None:
    return next((w for w in waits if w.waiting_seconds > than.waiting_seconds), None)


def test_a_queue_is_shown_with_its_root(database):
    with ExitStack() as doors, psycopg.connect(database) as holder:
        holder.execute(TAKE, ["HOT"])
        first = doors.enter_context(waiting(database, TAKE, "HOT"))
        waits_of(database, 1)
        second = doors.enter_context(waiting(database, TAKE, "HOT"))
        waits = waits_of(database, 2)
        pid = holder.info.backend_pid
        holder.rollback()
    assert {(wait.waiting_pid, wait.blocking_pid) for wait in waits} == {
        (first, pid),
        (second, first),
    }
    assert {wait.sku for wait in waits} == {"HOT"}
    assert verdict(waits) == f"2 wait; at the root of it: {pid}."


def test_the_right_row_of_two(database):
    with ExitStack() as doors, psycopg.connect(database) as holder:
        holder.execute(TAKE, ["HOT"])
        holder.execute(TAKE, ["COLD"])
        doors.enter_context(waiting(database, TAKE, "COLD"))
        (wait,) = waits_of(database, 1)
        holder.rollback()
    assert wait.sku == "COLD"


def test_another_roles_statement_is_hidden_and_the_row_is_not(admin, database):
    with ExitStack() as doors, psycopg.connect(admin) as holder:
        holder.execute(TAKE, ["HOT"])
        doors.enter_context(waiting(database, TAKE, "HOT"))
        (wait,) = waits_of(database, 1)
        pid = holder.info.backend_pid
        holder.rollback()
    assert (wait.sku, wait.blocking_pid) == ("HOT", pid)
    assert wait.blocking_role == "postgres"
    assert wait.blocking_state is None
    assert "reserved + 1" not in (wait.blocking_query or "")
    assert "hidden (another role's)" in describe(wait)


def test_a_row_elsewhere_a_table_and_a_lock_of_ones_own_are_waits_too(admin, database):
    with ExitStack() as doors, psycopg.connect(admin) as holder:
        holder.execute("UPDATE inventory.warehouse SET name = name WHERE code = 'W1'")
        doors.enter_context(
            waiting(admin, "UPDATE inventory.warehouse SET name = name WHERE code = 'W1'")
        )
        (row,) = waits_of(database, 1)
        holder.rollback()
    assert (row.relation, row.sku) == ("inventory.warehouse", None)
    assert row.ctid is not None
    assert row.row == f"inventory.warehouse {row.ctid}"
    with ExitStack() as doors, psycopg.connect(admin) as holder:
        holder.execute("LOCK TABLE inventory.stock IN SHARE MODE")
        doors.enter_context(waiting(database, TAKE, "HOT"))
        (table,) = waits_of(admin, 1)
        holder.rollback()
    assert (table.lock, table.row) == ("relation", "inventory.stock")
    with ExitStack() as doors, psycopg.connect(admin) as holder:
        holder.execute("SELECT pg_advisory_lock(7)")
        doors.enter_context(waiting(admin, "SELECT pg_advisory_xact_lock(7)"))
        (advisory,) = waits_of(database, 1)
        holder.execute("SELECT pg_advisory_unlock(7)")
    assert advisory.row == "a lock of kind advisory"


def test_the_command_prints_json_and_lines(database, monkeypatch):
    monkeypatch.setattr("cli.locks.load_settings", lambda: _Settings(database))
    with ExitStack() as doors, psycopg.connect(database) as holder:
        holder.execute(TAKE, ["HOT"])
        one = doors.enter_context(waiting(database, TAKE, "HOT"))
        waits_of(database, 1)
        as_json = CliRunner().invoke(app, ["locks", "--json"])
        as_text = CliRunner().invoke(app, ["locks"])
        pid = holder.info.backend_pid
        holder.rollback()
    (line,) = as_json.stdout.splitlines()
    told = orjson.loads(line)
    assert (told["waiting_pid"], told["blocking_pid"], told["sku"]) == (one, pid, "HOT")
    assert f"{one} (" in as_text.stdout
    assert f"HOT in W1: {pid}" in as_text.stdout
    assert f"at the root of it: {pid}." in as_text.stdout


class _Settings:
    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo

    def conninfo(self) -> str:
        return self._conninfo
