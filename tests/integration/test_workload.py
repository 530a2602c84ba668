"""The load generator against a real Postgres, as the application's role."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from bench.load import bulk_update, run, seed_catalogue
from bench.oversold import Overpromised, watching_oversold
from bench.sellers import Through
from bench.workload import Kind, WorkloadPlan
from inventory.errors import Outage
from sql.migrate import migrate
from sql.queries import load_queries
from tests.database import as_role, fresh_database

pytestmark = pytest.mark.integration

PLAN = WorkloadPlan(seed=7, skus=60, warehouses=3, hot_share=0.3)


@pytest.fixture(scope="module")
def database(stack, settings) -> Iterator[str]:
    with fresh_database(settings) as admin:
        migrate(admin)
        yield as_role(admin, "stockwire_app")


@pytest.fixture
def connection(database) -> Iterator[psycopg.Connection]:
    """A connection to a catalogue as seeded."""
    with psycopg.connect(database, autocommit=True) as connection:
        for table in ("stock", "reservation", "idempotency_key", "outbox"):
            connection.execute(f"DELETE FROM inventory.{table}")
        assert seed_catalogue(database, skus=60, warehouses=3) == 180
        yield connection


def stock(connection):
    return connection.execute(
        "SELECT sku, warehouse, on_hand, reserved, safety_stock, reason, reference, caused_by "
        "FROM inventory.stock ORDER BY sku, warehouse"
    ).fetchall()


def overpromised(connection) -> int:
    return connection.execute(
        "SELECT count(*) FROM inventory.stock WHERE on_hand < reserved OR reserved < 0"
    ).fetchone()[0]


def test_seeding_again_leaves_rows_alone_and_adds_what_is_missing(connection, database):
    before = stock(connection)
    assert seed_catalogue(database, skus=60, warehouses=3, seed=9) == 0
    assert stock(connection) == before
    assert seed_catalogue(database, skus=61, warehouses=4) == 61 * 4 - 180
    assert all(500 <= row[2] <= 1011 for row in stock(connection))


def test_the_same_seed_leaves_the_same_stock_behind(connection, database):
    left_behind = []
    for _ in range(2):
        connection.execute("DELETE FROM inventory.stock")
        seed_catalogue(database, skus=60, warehouses=3)
        run(database, PLAN, max_transactions=600, connections=1)
        left_behind.append(stock(connection))
    assert left_behind[0] == left_behind[1]


def test_many_connections_at_one_hot_sku_neither_deadlock_nor_overpromise(connection, database):
    plan = WorkloadPlan(skus=6, warehouses=3, hot_share=0.8)
    report = run(database, plan, max_transactions=2_000, connections=4)
    # Planned but not run are only the closings of refused orders.
    assert 2_000 - report.refused <= report.transactions + report.refused <= 2_000
    assert set(report.by_kind) == set(Kind)
    assert report.by_kind.total() == report.transactions
    assert report.changes > report.transactions
    assert overpromised(connection) == 0


def test_reserved_units_are_those_of_open_orders(connection, database):
    report = run(database, PLAN, max_transactions=1_500, connections=2)
    open_orders = (
        report.by_kind[Kind.ORDER]
        - report.by_kind[Kind.SHIPMENT]
        - report.by_kind[Kind.CANCELLATION]
    )
    reserved = connection.execute("SELECT sum(reserved) FROM inventory.stock").fetchone()[0]
    assert open_orders <= reserved <= open_orders * 5 * 3 * 2


def test_an_order_is_granted_whole_or_refused_whole(connection):
    move_stock = load_queries()["move_stock"]

    def order(*lines) -> int:
        skus, units = zip(*lines, strict=True)
        return connection.execute(
            move_stock,
            {
                "sku": list(skus),
                "warehouse": ["WH-1"] * len(lines),
                "on_hand": [0] * len(lines),
                "reserved": list(units),
                "reason": "order",
                "reference": "ORD-1",
            },
        ).rowcount

    before = stock(connection)
    assert order(("SKU-00001", 1), ("SKU-00002", 5_000)) == 0
    assert order(("SKU-00001", 1), ("SKU-99999", 1)) == 0
    assert order(("SKU-00001", -1)) == 0
    assert stock(connection) == before
    assert order(("SKU-00002", 1), ("SKU-00001", 1)) == 2
    changed = [row for row in stock(connection) if row not in before]
    assert [row[0] for row in changed] == ["SKU-00001", "SKU-00002"]
    assert {row[5:] for row in changed} == {("order", "ORD-1", "workload")}


def test_refused_orders_are_counted_and_neither_shipped_nor_cancelled(connection, database):
    connection.execute("UPDATE inventory.stock SET on_hand = 0")
    report = run(database, PLAN, max_transactions=300, connections=1)
    assert report.refused > 0
    assert report.by_kind[Kind.SHIPMENT] <= report.by_kind[Kind.ORDER]
    assert overpromised(connection) == 0


def test_a_rate_is_not_exceeded(connection, database):
    report = run(database, PLAN, changes_per_second=200, duration=1.0)
    # One transaction per connection may overshoot by its own lines.
    assert 0 < report.changes <= 200 + 2 * 5


def test_stop_ends_a_run_and_each_commit_is_told(connection, database):
    stop = threading.Event()
    told = []

    def on_commit(report):
        told.append(report.transactions + report.refused)
        if len(told) == 10:
            stop.set()

    report = run(database, PLAN, duration=60, connections=2, stop=stop, on_commit=on_commit)
    assert told == list(range(1, len(told) + 1))
    assert 10 <= len(told) <= 12
    assert report.seconds < 30


def test_a_lane_that_fails_stops_the_others_and_is_told(connection, database):
    def on_commit(report):
        if report.transactions == 5:
            raise RuntimeError("the table is gone")

    with pytest.raises(RuntimeError, match="the table is gone"):
        run(database, PLAN, duration=60, connections=3, on_commit=on_commit)


@pytest.mark.parametrize("wrong", [{"connections": 0}, {"changes_per_second": 0}])
def test_a_run_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="above 0"):
        run("", PLAN, **wrong)


def test_a_bulk_update_is_one_transaction(connection, database):
    assert bulk_update(database, 100) == 100
    rows, transactions = connection.execute(
        "SELECT count(*), count(DISTINCT xmin::text) FROM inventory.stock WHERE reason = 'recount'"
    ).fetchone()
    assert (rows, transactions) == (100, 1)
    assert bulk_update(database, 1_000_000) == 180


#: Rows that the write side has said to have changed.
CHANGED = (
    "SELECT coalesce(sum(jsonb_array_length(answer -> 'units')), 0) FROM inventory.idempotency_key"
)


def scalar(connection, query):
    return connection.execute(query).fetchone()[0]


def test_a_load_through_reservations_says_what_it_has_changed(connection, database):
    plan = WorkloadPlan(skus=6, warehouses=3, hot_share=0.6)
    report = run(database, plan, max_transactions=800, connections=2, through=Through.RESERVATIONS)
    assert set(report.by_kind) == set(Kind)
    assert report.orders_granted == report.by_kind[Kind.ORDER] > 0
    assert report.changes == scalar(connection, CHANGED)
    events = connection.execute("SELECT type, count(*) FROM inventory.outbox GROUP BY type")
    told = dict(events.fetchall())
    assert told["inventory.reserved"] == report.orders_granted
    assert told["inventory.confirmed"] == report.by_kind[Kind.SHIPMENT]
    assert told["inventory.released"] == report.by_kind[Kind.CANCELLATION]
    assert told["stock.transferred"] == report.by_kind[Kind.TRANSFER]
    assert told["stock.adjusted"] == report.by_kind[Kind.RECEIPT] + report.by_kind[Kind.COUNT]
    held = (
        "SELECT coalesce(sum(quantity), 0) FROM inventory.reservation_line l "
        "JOIN inventory.reservation r ON r.id = l.reservation WHERE r.status = 'held'"
    )
    reserved = scalar(connection, "SELECT sum(reserved) FROM inventory.stock")
    assert scalar(connection, held) == reserved > 0
    with watching_oversold(database) as watch:
        assert watch.rows() == []


def test_the_same_plan_sells_again_through_reservations(connection, database):
    plan = WorkloadPlan(skus=60, warehouses=3)
    first, again = (
        run(database, plan, max_transactions=60, connections=1, through=Through.RESERVATIONS)
        for _ in range(2)
    )
    assert first.transactions == again.transactions == 60
    made = scalar(connection, "SELECT count(*) FROM inventory.reservation")
    assert made == first.orders_granted + again.orders_granted


def test_a_basket_that_is_sold_out_is_refused_and_no_error(connection, database):
    connection.execute("UPDATE inventory.stock SET on_hand = 0")
    # Longer than the orders that are left open: the first of them would be shipped.
    report = run(database, PLAN, max_transactions=300, connections=1, through=Through.RESERVATIONS)
    assert report.orders_refused > 100
    assert report.refused > report.orders_refused
    assert report.by_kind[Kind.SHIPMENT] <= report.orders_granted
    assert report.changes == scalar(connection, CHANGED)


def test_what_is_oversold_is_seen_in_the_rows_themselves(connection, database):
    run(database, PLAN, max_transactions=40, connections=1, through=Through.RESERVATIONS)
    sku, warehouse, reserved, on_hand = connection.execute(
        "SELECT sku, warehouse, reserved, on_hand FROM inventory.stock WHERE reserved > 1 LIMIT 1"
    ).fetchone()
    where = "WHERE sku = %s AND warehouse = %s"
    with watching_oversold(database) as watch:
        assert watch.units() == 0
        # Somebody else has overwritten what was reserved: the same units can be sold again.
        connection.execute(f"UPDATE inventory.stock SET reserved = 1 {where}", (sku, warehouse))
        assert watch.rows() == [Overpromised(sku, warehouse, on_hand, 1, reserved)]
        # More is reserved than there is.
        connection.execute(
            f"UPDATE inventory.stock SET reserved = %s, on_hand = 0 {where}",
            (reserved, sku, warehouse),
        )
        assert watch.rows() == [Overpromised(sku, warehouse, 0, reserved, reserved)]


def test_a_load_through_reservations_ends_when_it_is_told_to(connection, database):
    stop = threading.Event()

    def on_commit(report):
        if report.orders_granted == 5:
            stop.set()

    report = run(
        database,
        PLAN,
        duration=60,
        connections=3,
        through=Through.RESERVATIONS,
        stop=stop,
        on_commit=on_commit,
    )
    assert report.orders_granted >= 5
    assert report.seconds < 30


def test_a_load_that_loses_postgres_says_so(connection, database):
    connection.execute("SET ROLE NONE")

    def on_commit(report):
        if report.transactions == 5:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'workload' LIMIT 1"
            )

    with pytest.raises(Outage, match="Postgres does not take the work"):
        run(
            database,
            PLAN,
            duration=60,
            connections=2,
            through=Through.RESERVATIONS,
            on_commit=on_commit,
        )
