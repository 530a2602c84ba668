"""The benchmark of reservations measures what it says, pgbench's part included."""

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis import Redis

from bench.expiry import Due
from bench.pgbench import run_pgbench
from bench.reservations import Sizes, Spread, reservation_figures, script
from inventory.errors import Outage
from sql.migrate import migrate
from tests.database import fresh_database

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def database(stack, settings):
    with Redis.from_url(str(settings.redis_url)) as redis, fresh_database(settings) as admin:
        # Of another database, whose sales had other numbers.
        for key in redis.scan_iter(match="flash:{BENCH-*"):
            redis.delete(key)
        migrate(admin)
        yield make_conninfo(settings.conninfo(), dbname=conninfo_to_dict(admin)["dbname"])


def test_every_strategy_and_pgbench_are_measured_in_one_run(database, settings):
    sizes = Sizes(
        pool=2, other_pools=(1,), clients=4, seconds=1, skus=20, due=Due(holds=300, seconds=1)
    )
    said = []
    figures = list(reservation_figures(database, str(settings.redis_url), sizes, said.append))
    rates = {(f.scenario, f.name): f.value for f in figures if f.unit == "requests/s"}
    assert {name for _, name in rates} == {
        "pgbench, same statements",
        "optimistic",
        "pessimistic",
        "redis",
    }
    assert all(rate is not None and rate > 0 for rate in rates.values())
    assert sum("20 SKUs" in scenario for scenario, _ in rates) == 6
    assert sum("one hot SKU" in scenario for scenario, _ in rates) == 5
    assert sum("pool of 1," in scenario for scenario, _ in rates) == 4
    assert all(f.value for f in figures if f.name.endswith("p99"))
    targets = ["≥ 60 %", "≥ 5 ×", "≤ 1,000 ms", "≤ 1,000 ms"]
    assert [f.target for f in figures if f.target] == targets
    assert all(f.value for f in figures if "holds due" in f.scenario)
    # What pgbench did is what the service does: one of each for each reservation.
    with psycopg.connect(database) as connection:
        counts = connection.execute(
            "SELECT count(*), count(DISTINCT k.key), "
            "(SELECT count(*) FROM inventory.reservation_line l WHERE l.quantity = 1), "
            "(SELECT count(*) FROM inventory.outbox WHERE type = 'inventory.reserved') "
            "FROM inventory.reservation r JOIN inventory.idempotency_key k "
            "ON k.answer ->> 'reservation' = r.id::text WHERE r.strategy <> 'redis'"
        ).fetchone()
        held = connection.execute("SELECT count(*) FROM inventory.reservation").fetchone()[0]
    reservations, keys, lines, events = counts
    assert reservations == keys > 0
    # Those that are to end are put there without being told.
    assert lines == held == events + 600


def test_what_pgbench_says_against_it_is_told(database):
    with pytest.raises(Outage, match="pgbench"):
        run_pgbench(database, "SELECT nothing FROM nowhere;\n", 1, 1)
    with pytest.raises(Outage, match="pgbench failed"):
        run_pgbench(make_conninfo(database, dbname="no_such_database"), script(Spread(1)), 1, 1)
