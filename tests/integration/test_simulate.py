"""A rush on a real Postgres: nobody sells a unit twice, except who only reads and writes."""

import asyncio
from collections.abc import Iterator

import orjson
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from typer.testing import CliRunner

import simulate.run as simulate_run
from cli.main import app
from simulate.buyers import Rush
from simulate.report import Result
from simulate.run import WAYS, Way, compare
from sql.migrate import migrate
from tests.database import fresh_database

pytestmark = pytest.mark.integration

REAL = [way for way in WAYS if way is not Way.NAIVE]


@pytest.fixture(scope="module")
def database(stack, settings) -> Iterator[str]:
    with fresh_database(settings) as admin:
        migrate(admin)
        yield make_conninfo(settings.conninfo(), dbname=conninfo_to_dict(admin)["dbname"])


def run(database, settings, rush: Rush, *ways: Way, pool_size: int = 8) -> list[Result]:
    return asyncio.run(compare(database, str(settings.redis_url), rush, ways, pool_size=pool_size))


def traces(database) -> list[tuple]:
    """What a run has left behind in the tables that it writes to."""
    with psycopg.connect(database) as connection:
        tables = ("stock", "reservation", "reservation_line", "idempotency_key", "flash_hold")
        return [
            *(
                connection.execute(f"SELECT count(*) FROM inventory.{table}").fetchone()
                for table in tables
            ),
            connection.execute("SELECT sum(held) FROM inventory.flash_sale").fetchone(),
        ]


@pytest.mark.parametrize("way", REAL)
def test_five_hundred_buyers_one_unit_one_winner(database, settings, way):
    (result,) = run(database, settings, Rush(500, 1, within=0.2), way)
    assert (result.granted, result.refused, result.oversold, result.unsold) == (1, 499, 0, 0)
    assert result.reserved == 1
    assert set(result.reasons) <= {"insufficient", "sold_out"}


@pytest.mark.parametrize("way", REAL)
def test_all_units_are_sold_and_none_twice(database, settings, way):
    (result,) = run(database, settings, Rush(400, 60, within=0), way)
    assert (result.granted, result.oversold, result.unsold) == (60, 0, 0)
    assert result.reserved == 60
    assert result.requests >= 400
    assert 0 < result.p50_ms <= result.p99_ms <= 1000 * result.seconds + 1
    assert result.requests_per_second > 0
    assert result.fairness is not None


@pytest.mark.parametrize("way", REAL)
def test_who_comes_first_is_mostly_served_first(database, settings, way):
    (result,) = run(database, settings, Rush(300, 100, within=0.3), way)
    assert result.fairness is not None
    assert result.fairness > 0.8


def test_naive_oversells_beside_those_that_do_not_in_one_run(database, settings):
    rush = Rush(200, 20, within=0)
    results = run(database, settings, rush, Way.OPTIMISTIC, Way.PESSIMISTIC, Way.NAIVE)
    assert [result.strategy for result in results] == ["optimistic", "pessimistic", "naive"]
    assert [result.oversold > 0 for result in results] == [False, False, True]
    assert results[2].granted > 20


def test_more_units_than_buyers_leave_nobody_refused(database, settings):
    results = run(database, settings, Rush(30, 100, within=0), *REAL)
    assert {(result.granted, result.refused, result.oversold) for result in results} == {(30, 0, 0)}
    assert {result.fairness for result in results} == {None}


def test_nothing_is_left_behind_also_when_it_fails(database, settings, monkeypatch):
    run(database, settings, Rush(20, 5, within=0), Way.REDIS)
    before = traces(database)
    assert before[-1] == (0,)
    run(database, settings, Rush(20, 5, within=0), *WAYS)
    assert traces(database) == before

    async def fail(*_):
        raise RuntimeError("the doors are stuck")

    monkeypatch.setattr(simulate_run, "let_in", fail)
    with pytest.raises(RuntimeError, match="stuck"):
        run(database, settings, Rush(20, 5, within=0), Way.OPTIMISTIC)
    assert traces(database) == before


def test_the_command_says_it_in_three_ways(database, settings, monkeypatch, tmp_path):
    wanted = settings.model_copy(update={"postgres_dsn": None})
    monkeypatch.setattr(type(wanted), "conninfo", lambda *_: database)
    monkeypatch.setattr("cli.simulate.load_settings", lambda: wanted)
    command = ["simulate", "--buyers", "40", "--units", "5", "--strategy", "optimistic"]
    command += ["--strategy", "naive", "--within", "0"]
    picture = tmp_path / "rush.svg"
    as_json = CliRunner().invoke(app, [*command, "--json", "--plot", str(picture)])
    assert as_json.exit_code == 0, as_json.output
    told = orjson.loads(as_json.stdout)
    assert (told["buyers"], told["units"], told["seed"]) == (40, 5, 1)
    assert [result["strategy"] for result in told["results"]] == ["optimistic", "naive"]
    assert told["results"][0]["granted"] == 5
    assert picture.read_text().startswith("<svg")
    text = CliRunner().invoke(app, command)
    assert "oversold" in text.stdout
    assert "No strategy sold a unit that was not there" in text.stdout
    table = CliRunner().invoke(app, [*command, "--markdown"])
    assert table.stdout.startswith("| strategy |")


def test_overselling_is_an_exit_code_unless_it_is_naive(database, settings, monkeypatch):
    wanted = settings.model_copy(update={"postgres_dsn": None})
    monkeypatch.setattr(type(wanted), "conninfo", lambda *_: database)
    monkeypatch.setattr("cli.simulate.load_settings", lambda: wanted)
    monkeypatch.setattr(
        simulate_run, "WAYS", {**WAYS, Way.OPTIMISTIC: simulate_run.WAYS[Way.NAIVE]}
    )
    command = ["simulate", "--buyers", "100", "--units", "5", "--within", "0", "--strategy"]
    assert CliRunner().invoke(app, [*command, "naive"]).exit_code == 0
    caught = CliRunner().invoke(app, [*command, "optimistic"])
    assert caught.exit_code == 3
    assert "OVERSOLD: optimistic" in caught.stdout
