"""`stockwire reserve` and `stockwire reservation` on a real Postgres."""

from collections.abc import Iterator
from uuid import uuid4

import orjson
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from typer.testing import CliRunner, Result

from cli.main import app
from inventory.errors import NotFound, Outage
from sql.migrate import migrate
from tests.database import fresh_database
from tests.unit.test_health import free_port

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def database(stack, settings) -> Iterator[str]:
    with fresh_database(settings) as admin:
        migrate(admin)
        with psycopg.connect(admin) as connection:
            connection.execute("INSERT INTO inventory.warehouse VALUES ('W1', 'One')")
        yield make_conninfo(settings.conninfo(), dbname=conninfo_to_dict(admin)["dbname"])


@pytest.fixture
def sku(database) -> str:
    """A new SKU with 5 units."""
    name = f"SKU-{uuid4().hex[:8]}"
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'W1', 5)", [name]
        )
    return name


@pytest.fixture
def stockwire(database, settings, monkeypatch):
    """Runs a command against the test's own database."""
    monkeypatch.setattr(type(settings), "conninfo", lambda *_: database)
    monkeypatch.setattr("cli.reserve.load_settings", lambda: settings)

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    return run


def quantities(database, sku) -> tuple[int, int]:
    with psycopg.connect(database) as connection:
        return connection.execute(
            "SELECT on_hand, reserved FROM inventory.stock WHERE sku = %s", [sku]
        ).fetchone()


def held(stockwire, sku, quantity=2) -> str:
    result = stockwire("reserve", f"{sku}={quantity}", "--reference", "ORD-1", "--json")
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)["reservation"]


def test_units_are_held_sold_and_shown(stockwire, database, sku):
    reservation = held(stockwire, sku)
    assert quantities(database, sku) == (5, 2)
    shown = stockwire("reservation", "show", reservation)
    assert "held until" in shown.stdout
    assert f"2 × {sku} in W1" in shown.stdout
    confirmed = stockwire("reservation", "confirm", reservation, "--key", "c-1", "--json")
    assert confirmed.exit_code == 0
    (version,) = orjson.loads(confirmed.stdout)["versions"]
    assert (version["sku"], version["warehouse"]) == (sku, "W1")
    assert quantities(database, sku) == (3, 0)
    told = orjson.loads(stockwire("reservation", "show", reservation, "--json").stdout)
    assert (told["status"], told["reference"], told["caller"]) == ("confirmed", "ORD-1", "cli")
    assert told["lines"] == [{"sku": sku, "warehouse": "W1", "quantity": 2}]
    assert "confirmed since" in stockwire("reservation", "show", reservation).stdout


def test_units_are_let_go(stockwire, database, sku):
    reservation = held(stockwire, sku)
    assert stockwire("reservation", "release", reservation).exit_code == 0
    assert quantities(database, sku) == (5, 0)
    refused = stockwire("reservation", "confirm", reservation, "--json")
    assert refused.exit_code == 3
    assert orjson.loads(refused.stdout)["refused"] == "closed"


def test_what_is_not_there_is_refused_with_its_number(stockwire, database, sku):
    result = stockwire("reserve", f"{sku}=6", "--reference", "ORD-1")
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        "refused: insufficient",
        f"  {sku}: 6 wanted, 5 there",
    ]
    assert quantities(database, sku) == (5, 0)
    unknown = stockwire("reserve", "NO-SUCH=1", "--reference", "ORD-1", "--json")
    assert unknown.exit_code == 3
    assert orjson.loads(unknown.stdout)["refused"] == "unknown_sku"


@pytest.mark.parametrize("strategy", ["optimistic", "pessimistic"])
def test_the_same_key_has_one_effect(stockwire, database, sku, strategy):
    command = ["reserve", f"{sku}=2", "--reference", "ORD-1", "--key", sku, "--json"]
    command += ["--strategy", strategy]
    first, second = stockwire(*command), stockwire(*command)
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout
    assert quantities(database, sku) == (5, 2)
    other = stockwire("reserve", f"{sku}=1", "--reference", "ORD-1", "--key", sku)
    assert other.exit_code == 3
    assert other.stdout.startswith("refused: key reused")


def test_an_unknown_reservation(stockwire):
    nobody = str(uuid4())
    assert isinstance(stockwire("reservation", "show", nobody).exception, NotFound)
    assert stockwire("reservation", "confirm", nobody).exit_code == 3
    assert stockwire("reservation", "show", "no-uuid").exit_code == 2


def test_an_outage_is_an_outage(stockwire, settings, monkeypatch):
    nowhere = f"postgresql://stockwire_app@127.0.0.1:{free_port()}/stockwire"
    monkeypatch.setattr(type(settings), "conninfo", lambda *_: nowhere)
    monkeypatch.setattr("cli.reserve.WAIT_SECONDS", 1.0)
    result = stockwire("reserve", "S=1", "--reference", "ORD-1")
    assert isinstance(result.exception, Outage)
    assert result.exit_code == 1
