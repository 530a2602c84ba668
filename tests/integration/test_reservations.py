"""Reserve, confirm, release, and what is told of it, on a real Postgres."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from inventory.errors import Outage
from reservations.basket import Closed, Granted, Reason, Refused, Short, Sourcing, Strategy
from reservations.events import Adjusted, ReservationFailed, Reserved, Transferred
from reservations.pool import open_pool
from reservations.service import Reservations
from reservations.strategies.taker import Locking
from reservations.strategies.taking import Attempt
from tests.database import as_role
from tests.reservation_world import (
    assert_sound,
    basket,
    events,
    put,
    query,
    run,
    told,
    units,
)

pytestmark = pytest.mark.integration

#: Each way to take units on Postgres.
WAYS = [
    pytest.param(Strategy.OPTIMISTIC, None, id="optimistic"),
    *(pytest.param(Strategy.PESSIMISTIC, locking, id=locking.value) for locking in Locking),
]


@pytest.fixture
def shop(database) -> Iterator[str]:
    """As the application's role, on a database without stock."""
    put(database, [])
    conninfo = as_role(database, "stockwire_app")
    yield conninfo
    assert_sound(conninfo)


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_a_basket_is_held_whole_or_not_at_all(shop, strategy, locking):
    put(shop, [("A", "W1", 5), ("A", "W2", 5), ("B", "W2", 1)])

    async def work(service):
        ask = basket(("B", 1), ("A", 7))
        granted = await service.reserve(ask, strategy, locking=locking)
        refused = await service.reserve(basket(("A", 1), ("B", 1)), strategy, locking=locking)
        unknown = await service.reserve(
            basket(("A", 9), ("X", 2), ("B", 1)), strategy, locking=locking
        )
        return granted, refused, unknown

    granted, refused, unknown = run(shop, work)
    assert isinstance(granted, Granted)
    parts = [(held.sku, held.warehouse, held.quantity) for held in granted.held]
    assert parts == [("A", "W1", 5), ("A", "W2", 2), ("B", "W2", 1)]
    assert refused == Refused(Reason.INSUFFICIENT, (Short("B", 1, 0),))
    assert unknown == Refused(
        Reason.UNKNOWN_SKU, (Short("A", 9, 3), Short("X", 2, 0), Short("B", 1, 0))
    )
    assert units(shop) == {("A", "W1"): (5, 5), ("A", "W2"): (5, 2), ("B", "W2"): (1, 1)}
    rows = query(
        shop, "SELECT sku, warehouse, version, reason, reference, caused_by FROM inventory.stock"
    )
    assert {row[:3] for row in rows} == {
        (held.sku, held.warehouse, held.version) for held in granted.held
    }
    assert {row[3:] for row in rows} == {("reserve", "ORD-1", "web")}
    assert query(shop, "SELECT strategy FROM inventory.reservation") == [(strategy.value,)]
    said = {type(event): event for event in events(shop)}
    reserved = said[Reserved]
    assert reserved.reservation == granted.reservation
    assert reserved.held_until == granted.held_until
    assert [
        (part.sku, part.warehouse, part.quantity, part.row_version) for part in reserved.units
    ] == [(held.sku, held.warehouse, held.quantity, held.version) for held in granted.held]
    assert isinstance(said[ReservationFailed], ReservationFailed)
    assert told(shop) == {"inventory.reserved": 1, "inventory.reservation.failed": 2}


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_safety_stock_is_not_sold(shop, strategy, locking):
    put(shop, [("A", "W1", 5)])
    query(shop, "UPDATE inventory.stock SET safety_stock = 3 RETURNING 1")

    async def work(service):
        return [
            await service.reserve(basket(("A", quantity)), strategy, locking=locking)
            for quantity in (3, 2)
        ]

    refused, granted = run(shop, work)
    assert refused == Refused(Reason.INSUFFICIENT, (Short("A", 3, 2),))
    assert isinstance(granted, Granted)


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_a_sku_may_be_any_text(shop, strategy, locking):
    skus = ['a"b', "c\\d", "{e,f}", "NULL", "null", " g ", "ü%s", "'", "{", '\\"', ",", "h\ni"]
    put(shop, [(sku, "W1", 1) for sku in skus])

    async def work(service):
        ask = basket(*((sku, 1) for sku in skus), warehouses=("W1", 'W"2'))
        return await service.reserve(ask, strategy, locking=locking)

    granted = run(shop, work)
    assert isinstance(granted, Granted)
    assert sorted(held.sku for held in granted.held) == sorted(skus)
    assert set(units(shop).values()) == {(1, 1)}


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_the_warehouses_that_are_asked_for_and_the_policy_are_kept(shop, strategy, locking):
    put(shop, [("A", "W1", 3), ("A", "W2", 9)])

    async def work(service):
        answers = []
        for given in (
            {"warehouses": ("W1",)},
            {"warehouses": ("W2", "W1")},
            {"sourcing": Sourcing.HIGHEST_STOCK},
            {"warehouses": ("W1",)},
        ):
            ask = basket(("A", 2), **given)
            answers.append(await service.reserve(ask, strategy, locking=locking))
        return answers

    *granted, refused = run(shop, work)
    assert [answer.held[0].warehouse for answer in granted] == ["W1", "W2", "W2"]
    assert refused == Refused(Reason.INSUFFICIENT, (Short("A", 2, 1),))


def test_what_is_held_is_sold_once(shop):
    put(shop, [("A", "W1", 5)])

    async def work(service):
        granted = await service.reserve(basket(("A", 2)))
        asked = {"caller": "web", "key": "pay-1"}
        first = await service.confirm(granted.reservation, **asked)
        again = await service.confirm(granted.reservation, **asked)
        other_key = await service.confirm(granted.reservation, caller="web", key="pay-2")
        release = await service.release(granted.reservation, caller="web", key="back-1")
        reused = await service.release(granted.reservation, **asked)
        return first, again, other_key, release, reused

    first, again, other_key, release, reused = run(shop, work)
    assert isinstance(first, Closed)
    assert first == again == other_key
    assert release == Refused(Reason.CLOSED)
    assert reused == Refused(Reason.KEY_REUSED)
    assert units(shop) == {("A", "W1"): (3, 0)}
    [(version, reason, reference)] = query(
        shop, "SELECT version, reason, reference FROM inventory.stock"
    )
    assert first.versions == {("A", "W1"): version}
    assert (reason, reference) == ("confirm", "ORD-1")
    assert told(shop) == {"inventory.reserved": 1, "inventory.confirmed": 1}


def test_what_is_let_go_is_free_again(shop):
    put(shop, [("A", "W1", 5)])

    async def work(service):
        granted = await service.reserve(basket(("A", 2)))
        first = await service.release(granted.reservation, caller="web", key="back-1")
        again = await service.release(granted.reservation, caller="web", key="back-2")
        confirm = await service.confirm(granted.reservation, caller="web", key="pay-1")
        nobody = await service.release(uuid4(), caller="web", key="back-3")
        return first, again, confirm, nobody

    first, again, confirm, nobody = run(shop, work)
    assert isinstance(first, Closed)
    assert first == again
    assert confirm == Refused(Reason.CLOSED)
    assert nobody == Refused(Reason.UNKNOWN_RESERVATION)
    assert units(shop) == {("A", "W1"): (5, 0)}
    assert told(shop) == {"inventory.reserved": 1, "inventory.released": 1}


def test_what_is_due_cannot_be_sold_even_if_no_worker_has_come(shop):
    put(shop, [("A", "W1", 5)])

    async def work(service):
        granted = [await service.reserve(basket(("A", 1))) for _ in range(2)]
        query(shop, "UPDATE inventory.reservation SET held_until = clock_timestamp() RETURNING 1")
        late, other = (answer.reservation for answer in granted)
        return (
            await service.confirm(late, caller="web", key="pay-1"),
            await service.release(other, caller="web", key="back-1"),
            await service.expire_due(),
            await service.expire_due(),
            await service.confirm(late, caller="web", key="pay-2"),
            await service.release(late, caller="web", key="back-2"),
        )

    confirm, release, first, second, later, gone = run(shop, work)
    assert confirm == later == Refused(Reason.EXPIRED)
    assert isinstance(release, Closed)
    assert isinstance(gone, Closed)
    assert (first, second) == (1, 0)
    assert units(shop) == {("A", "W1"): (5, 0)}
    assert query(shop, "SELECT reason, reference, caused_by FROM inventory.stock") == [
        ("expire", "ORD-1", "expiry")
    ]


def test_what_a_count_has_not_found_cannot_be_sold(shop):
    put(shop, [("A", "W1", 5)])

    async def work(service):
        granted = await service.reserve(basket(("A", 3)))
        query(shop, "UPDATE inventory.stock SET on_hand = 2 RETURNING 1")
        refused = await service.confirm(granted.reservation, caller="web", key="pay-1")
        await service.release(granted.reservation, caller="web", key="back-1")
        return refused

    assert run(shop, work) == Refused(Reason.INSUFFICIENT, (Short("A", 3, 2),))
    assert units(shop) == {("A", "W1"): (2, 0)}


def test_a_row_that_is_gone_or_was_changed_by_hand_does_not_keep_others_from_ending(shop):
    put(shop, [("A", "W1", 5), ("B", "W1", 5), ("C", "W1", 5)])

    async def work(service):
        for sku in "ABC":
            await service.reserve(basket((sku, 2)))
        query(shop, "DELETE FROM inventory.stock WHERE sku = 'A' RETURNING 1")
        query(shop, "UPDATE inventory.stock SET reserved = 0 WHERE sku = 'B' RETURNING 1")
        query(shop, "UPDATE inventory.reservation SET held_until = clock_timestamp() RETURNING 1")
        return await service.expire_due()

    assert run(shop, work) == 3
    assert units(shop) == {("B", "W1"): (5, 0), ("C", "W1"): (5, 0)}


def test_units_are_counted_in_and_out_and_carried(shop):
    put(shop, [("A", "W1", 5)])
    by = {"caller": "wms", "reference": "DOC-1"}

    async def work(service):
        await service.reserve(basket(("A", 2)))
        receipt = await service.adjust("B", "W2", 4, key="1", reason="receipt", **by)
        again = await service.adjust("B", "W2", 4, key="1", reason="receipt", **by)
        too_many = await service.adjust("A", "W1", -4, key="2", **by)
        lost = await service.adjust("A", "W1", -1, key="3", **by)
        moved = await service.transfer("A", "W1", "W2", 2, key="4", **by)
        moved_again = await service.transfer("A", "W1", "W2", 2, key="4", **by)
        held = await service.transfer("A", "W1", "W2", 1, key="5", **by)
        nowhere = await service.transfer("B", "W2", "W9", 1, key="6", **by)
        nothing = await service.adjust("X", "W1", -1, key="7", **by)
        reused = await service.adjust("A", "W1", -2, key="3", **by)
        return (receipt, again, too_many, lost, moved, moved_again, held, nowhere, nothing, reused)

    receipt, again, too_many, lost, moved, moved_again, held, nowhere, nothing, reused = run(
        shop, work
    )
    assert receipt == again
    assert moved == moved_again
    assert too_many == Refused(Reason.INSUFFICIENT, (Short("A", 4, 3),))
    assert held == Refused(Reason.INSUFFICIENT, (Short("A", 1, 0),))
    assert nowhere == Refused(Reason.UNKNOWN_SKU, (Short("B", 1, 0),))
    assert nothing == Refused(Reason.UNKNOWN_SKU, (Short("X", 1, 0),))
    assert reused == Refused(Reason.KEY_REUSED)
    assert units(shop) == {("A", "W1"): (2, 2), ("A", "W2"): (2, 0), ("B", "W2"): (4, 0)}
    versions = {
        (row[0], row[1]): row[2]
        for row in query(shop, "SELECT sku, warehouse, version FROM inventory.stock")
    }
    assert {**receipt.versions, **lost.versions, **moved.versions} == versions
    stock = [event for event in events(shop) if event.aggregate == "stock"]
    assert [(type(event), event.sku) for event in stock] == [
        (Adjusted, "B"),
        (Adjusted, "A"),
        (Transferred, "A"),
    ]
    assert (stock[1].delta, stock[1].on_hand, stock[1].reason) == (-1, 4, "adjust")
    assert (stock[2].source_version, stock[2].target_version) == tuple(moved.versions.values())


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_a_basket_may_have_two_hundred_lines(shop, strategy, locking):
    rows = [(f"S-{n:03}", warehouse, 3) for n in range(200) for warehouse in ("W1", "W2")]
    put(shop, rows)
    lines = [(f"S-{n:03}", 5) for n in range(200)]

    async def work(service):
        granted = await service.reserve(basket(*lines), strategy, locking=locking)
        closed = await service.confirm(granted.reservation, caller="web", key="pay")
        return granted, closed

    granted, closed = run(shop, work)
    assert len(granted.held) == len(closed.versions) == 400
    assert set(units(shop).values()) == {(0, 0), (1, 0)}


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_rows_that_others_keep_locked_are_a_conflict_after_the_patience(shop, strategy, locking):
    put(shop, [("A", "W1", 5)])
    ask = basket(("A", 1))

    async def work(service):
        with psycopg.connect(shop) as other:
            other.execute("SELECT FROM inventory.stock FOR UPDATE")
            refused = await service.reserve(ask, strategy, locking=locking)
        retries = service.tally.retries
        # A conflict is not kept: the same key may be tried again.
        return refused, retries, await service.reserve(ask, strategy, locking=locking)

    refused, retries, granted = run(shop, work, patience=0.3, lock_seconds=0.3)
    assert refused == Refused(Reason.CONFLICT)
    assert isinstance(granted, Granted)
    if locking is Locking.TIMEOUT:
        # Who has waited as long as the patience lasts, is not made to wait again.
        assert retries == 0


def test_who_is_overtaken_each_time_is_served_at_last(shop, monkeypatch):
    """Somebody changes the row behind each look; only a lock keeps them out."""
    put(shop, [("A", "W1", 5)])
    choose = Attempt.choose
    with psycopg.connect(shop, autocommit=True) as other:

        def overtaken(attempt, rows):
            other.execute(
                "UPDATE inventory.stock SET incoming = incoming + 1 WHERE ctid IN "
                "(SELECT ctid FROM inventory.stock FOR NO KEY UPDATE SKIP LOCKED)"
            )
            return choose(attempt, rows)

        monkeypatch.setattr(Attempt, "choose", overtaken)

        async def work(service):
            granted = await service.reserve(basket(("A", 3)))
            return granted, service.tally.retries, await service.reserve(basket(("A", 3)))

        granted, retries, short = run(shop, work, patience=0.2)
    assert isinstance(granted, Granted)
    assert retries > 1
    assert short == Refused(Reason.INSUFFICIENT, (Short("A", 3, 2),))


def test_locked_rows_are_left_out_where_another_warehouse_has_enough(shop):
    put(shop, [("A", "W1", 5), ("A", "W2", 3)])

    async def work(service):
        async def ask(quantity):
            return await service.reserve(
                basket(("A", quantity)), Strategy.PESSIMISTIC, locking=Locking.SKIP_LOCKED
            )

        with psycopg.connect(shop) as other:
            other.execute("SELECT FROM inventory.stock WHERE warehouse = 'W1' FOR UPDATE")
            return await ask(2), await ask(2), await ask(8)

    elsewhere, conflict, short = run(shop, work, patience=0.3)
    assert [(held.warehouse, held.quantity) for held in elsewhere.held] == [("W2", 2)]
    # What the other one has locked would do, and it may yet let it go.
    assert conflict == Refused(Reason.CONFLICT)
    assert short == Refused(Reason.INSUFFICIENT, (Short("A", 8, 6),))


def test_an_outage_is_one_clear_sentence(database, shop):
    async def work(service):
        query(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'stockwire-reservations' AND datname = current_database()",
        )
        with pytest.raises(Outage, match="Postgres does not take the work"):
            await service.reserve(basket(("A", 1)))

    run(shop, work, size=1)


def test_who_finds_no_connection_is_told_so(shop):
    async def main():
        async with open_pool(shop, size=1) as pool, pool.connection():
            pool.timeout = 0.1
            with pytest.raises(Outage, match="No connection to Postgres is free"):
                await Reservations(pool).reserve(basket(("A", 1)))

    asyncio.run(main())


def test_every_connection_has_timeouts(shop):
    async def main():
        async with (
            open_pool(shop, size=1, statement_seconds=7, lock_seconds=3) as pool,
            pool.connection() as connection,
        ):
            return [
                (await (await connection.execute(f"SHOW {name}")).fetchone())[0]
                for name in (
                    "statement_timeout",
                    "lock_timeout",
                    "idle_in_transaction_session_timeout",
                )
            ]

    assert asyncio.run(main()) == ["7s", "3s", "7s"]
