"""What may be stale is read from the replica; what is written, and read after it, is not.

The replica is a database of its own that is behind, and refuses every write: which of the two has
answered, and that nothing was written there, can be seen.
"""

import asyncio
from collections.abc import Iterator
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from typer.testing import CliRunner, Result

from cli.main import app
from reservations.pool import open_pool
from reservations.reads import read
from reservations.saga.store import Sagas
from sql.migrate import migrate
from tests.database import fresh_database
from tests.reservation_world import query
from tests.saga_world import a_command
from tests.unit.test_health import free_port

pytestmark = pytest.mark.integration

TABLES = ("stock", "reservation", "reservation_line", "idempotency_key", "outbox", "saga")


@pytest.fixture(scope="module")
def servers(stack, settings) -> Iterator[tuple[str, str]]:
    """The primary and the replica, as the application's role."""
    with fresh_database(settings) as primary, fresh_database(settings) as replica:
        names = [conninfo_to_dict(admin)["dbname"] for admin in (primary, replica)]
        for admin in (primary, replica):
            migrate(admin)
            query(admin, "INSERT INTO inventory.warehouse VALUES ('W1', 'One') RETURNING 1")
        with psycopg.connect(replica, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(
                    sql.Identifier(names[1])
                )
            )
        application = settings.conninfo()
        yield (
            make_conninfo(application, dbname=names[0]),
            make_conninfo(application, dbname=names[1]),
        )


@pytest.fixture
def stockwire(servers, settings, monkeypatch):
    """Runs a command with both of them set."""
    monkeypatch.setattr(type(settings), "conninfo", lambda *_: servers[0])
    monkeypatch.setattr(type(settings), "replica_conninfo", servers[1])
    monkeypatch.setattr("cli.reserve.load_settings", lambda: settings)
    monkeypatch.setattr("cli.saga.load_settings", lambda: settings)

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    return run


def held(stockwire, primary) -> str:
    """A reservation that the replica has not heard of."""
    sku = f"SKU-{uuid4().hex[:8]}"
    query(
        primary,
        "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'W1', 5) RETURNING 1",
        sku,
    )
    result = stockwire("reserve", f"{sku}=2", "--reference", "ORD-1", "--json")
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)["reservation"]


_RESERVATION = """
    SELECT id, caller, reference, strategy, status, held_until, created_at, closed_at
    FROM inventory.reservation WHERE id = %s
"""
_ARRIVES = """
    INSERT INTO inventory.reservation
        (id, caller, reference, strategy, status, held_until, created_at, closed_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


def arrive(servers, reservation: str) -> None:
    """The replica hears of a reservation, as it is now."""
    [row] = query(servers[0], _RESERVATION, reservation)
    with psycopg.connect(servers[1]) as replica:
        replica.read_only = False
        replica.execute(_ARRIVES, row)


def content(conninfo: str) -> list[tuple[str, str]]:
    return [
        (table, str(row)) for table in TABLES for row in query(conninfo, f"TABLE inventory.{table}")
    ]


def status(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)["status"]


def test_what_may_be_stale_is_shown_as_the_replica_has_it(stockwire, servers):
    reservation = held(stockwire, servers[0])
    arrive(servers, reservation)
    assert stockwire("reservation", "confirm", reservation).exit_code == 0
    show = ["reservation", "show", reservation, "--json"]
    assert status(stockwire(*show)) == "held"
    assert status(stockwire(*show, "--fresh")) == "confirmed"


def test_what_has_not_arrived_there_is_found_on_the_primary(stockwire, servers):
    reservation = held(stockwire, servers[0])
    shown = stockwire("reservation", "show", reservation, "--json")
    assert status(shown) == "held"
    assert orjson.loads(shown.stdout)["lines"][0]["quantity"] == 2
    assert stockwire("reservation", "show", str(uuid4())).exit_code == 1


def test_everything_is_written_on_the_primary(stockwire, servers):
    before = content(servers[1])
    sold, free = held(stockwire, servers[0]), held(stockwire, servers[0])
    assert stockwire("reservation", "confirm", sold, "--key", "K").exit_code == 0
    # The answer under the key is read where it was written.
    assert stockwire("reservation", "confirm", sold, "--key", "K").exit_code == 0
    assert stockwire("reservation", "release", free).exit_code == 0
    assert stockwire("saga", "retry", str(uuid4())).exit_code == 1
    assert content(servers[1]) == before
    found = query(
        servers[0],
        "SELECT id, status FROM inventory.reservation WHERE id = ANY (%s::uuid[])",
        [sold, free],
    )
    assert dict(found) == {UUID(sold): "confirmed", UUID(free): "released"}


@pytest.mark.parametrize("place", [0, 1])
def test_a_read_cannot_write_wherever_it_goes(servers, place):
    async def write(pool):
        async with pool.connection() as connection:
            await connection.execute("DELETE FROM inventory.outbox")

    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        asyncio.run(read(write, *servers[: place + 1]))


def test_a_replica_that_does_not_answer_is_left_out_and_this_is_said(
    stockwire, servers, settings, monkeypatch
):
    nowhere = f"postgresql://stockwire_app@127.0.0.1:{free_port()}/stockwire"
    monkeypatch.setattr(type(settings), "replica_conninfo", nowhere)
    monkeypatch.setattr("reservations.reads._REPLICA_SECONDS", 0.5)
    reservation = held(stockwire, servers[0])
    shown = stockwire("reservation", "show", reservation, "--json")
    assert status(shown) == "held"
    assert "The replica of STOCKWIRE_REPLICA_DSN is left out, the primary is asked" in shown.stderr
    assert not stockwire("reservation", "show", reservation, "--fresh").stderr
    assert stockwire("saga", "list").exit_code == 0


def test_checkouts_are_listed_as_the_replica_has_them(stockwire, servers):
    command = a_command()

    async def accept(conninfo):
        async with open_pool(conninfo, size=1) as pool:
            await Sagas(pool).accept(command)

    writable = make_conninfo(servers[1], options="-c default_transaction_read_only=off")
    asyncio.run(accept(writable))
    [listed] = stockwire("saga", "list", "--json").stdout.splitlines()
    assert orjson.loads(listed)["id"] == str(command.saga)
    assert status(stockwire("saga", "show", str(command.saga), "--json")) == "running"
    # Nothing is due on the primary, which has never heard of it.
    assert stockwire("saga", "retry", str(command.saga)).exit_code == 1
