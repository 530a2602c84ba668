"""Reservations side by side: one hot unit, crossing baskets, one key twice, several expirers."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reservations import expiry, idempotency
from reservations.basket import Closed, Granted, Reason, Refused, Strategy
from reservations.expiry import run_expiry
from reservations.pool import open_pool
from reservations.service import Reservations
from reservations.strategies.taker import Locking
from tests.database import as_role
from tests.integration.test_reservations import WAYS
from tests.polling import eventually
from tests.reservation_world import (
    CONFLICT,
    INSUFFICIENT,
    PATIENCE,
    assert_sound,
    basket,
    put,
    query,
    run,
    tally,
    told,
    units,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def shop(database) -> Iterator[str]:
    """As the application's role, on a database without stock.

    Its commits do not wait for the disk: who sees what, and who waits for whom, is the same, and
    thousands of buyers are served in seconds.
    """
    put(database, [])
    role = conninfo_to_dict(as_role(database, "stockwire_app"))
    conninfo = make_conninfo(
        "", **role | {"options": f"{role['options']} -c synchronous_commit=off"}
    )
    yield conninfo
    assert_sound(conninfo)


def sell(shop, buyers, strategy, locking):
    """So many buyers at once, one unit of A each; the answers."""

    async def work(service):
        return await asyncio.gather(
            *(service.reserve(basket(("A", 1)), strategy, locking=locking) for _ in range(buyers))
        )

    return run(shop, work)


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_of_500_buyers_of_one_unit_one_wins(shop, strategy, locking):
    for _ in range(20 if locking in (None, Locking.TIMEOUT) else 5):
        put(shop, [("A", "W1", 1)])
        assert tally(sell(shop, 500, strategy, locking)) == {"granted": 1, INSUFFICIENT: 499}
        assert units(shop) == {("A", "W1"): (1, 1)}
        assert told(shop) == {"inventory.reserved": 1, "inventory.reservation.failed": 499}
        assert_sound(shop)


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_of_2000_buyers_of_100_units_100_win(shop, strategy, locking):
    put(shop, [("A", "W1", 60), ("A", "W2", 40)])
    assert tally(sell(shop, 2_000, strategy, locking)) == {"granted": 100, INSUFFICIENT: 1_900}
    assert units(shop) == {("A", "W1"): (60, 60), ("A", "W2"): (40, 40)}


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_processes_of_their_own_sell_the_last_unit_once(shop, strategy, locking):
    """Threads, each with its own event loop and pool: nothing is agreed within one process."""
    put(shop, [("A", "W1", 3)])
    ready = threading.Barrier(4)

    def buyers():
        async def work(service):
            await asyncio.to_thread(ready.wait)
            return await asyncio.gather(
                *(service.reserve(basket(("A", 1)), strategy, locking=locking) for _ in range(20))
            )

        return run(shop, work, size=3)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(buyers) for _ in range(4)]
        answers = [answer for future in futures for answer in future.result()]
    assert tally(answers) == {"granted": 3, INSUFFICIENT: 77}


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_one_key_sent_many_times_at_once_has_one_effect(shop, strategy, locking):
    put(shop, [("A", "W1", 5)])
    ask, other = basket(("A", 2), key="K"), basket(("A", 1), key="K")

    async def work(service):
        return await asyncio.gather(
            *(service.reserve(ask, strategy, locking=locking) for _ in range(40))
        ), await service.reserve(other, strategy, locking=locking)

    answers, reused = run(shop, work)
    assert len(set(answers)) == 1
    assert isinstance(answers[0], Granted)
    assert reused == Refused(Reason.KEY_REUSED)
    assert units(shop) == {("A", "W1"): (5, 2)}
    assert told(shop) == {"inventory.reserved": 1}


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_of_two_requests_under_one_key_at_once_one_is_answered(shop, strategy, locking):
    put(shop, [(sku, "W1", 5) for sku in "ABCDEFGH"])

    async def work(service):
        return await asyncio.gather(
            *(
                service.reserve(basket((sku, 1), key="K"), strategy, locking=locking)
                for sku in "ABCDEFGH"
            )
        )

    answers = run(shop, work)
    assert tally(answers) == {"granted": 1, Reason.KEY_REUSED.value: 7}
    assert sum(reserved for _, reserved in units(shop).values()) == 1


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_a_refusal_is_an_answer_too(shop, strategy, locking):
    put(shop, [("A", "W1", 1)])
    ask = basket(("A", 2))

    async def work(service):
        first = await asyncio.gather(
            *(service.reserve(ask, strategy, locking=locking) for _ in range(20))
        )
        query(shop, "UPDATE inventory.stock SET on_hand = 9 RETURNING 1")
        return [*first, await service.reserve(ask, strategy, locking=locking)]

    assert tally(run(shop, work)) == {INSUFFICIENT: 21}
    assert told(shop) == {"inventory.reservation.failed": 1}


def test_each_caller_has_keys_of_its_own(shop):
    put(shop, [("A", "W1", 5)])

    async def work(service):
        for caller in ("web", "app"):
            await service.reserve(basket(("A", 2), key="K", caller=caller))

    run(shop, work)
    assert units(shop) == {("A", "W1"): (5, 4)}


def test_ends_that_race_for_a_reservation_end_it_once(shop):
    put(shop, [("A", "W1", 40)])

    async def work(service):
        asks = [service.reserve(basket(("A", 1))) for _ in range(40)]
        ids = [granted.reservation for granted in await asyncio.gather(*asks)]
        ends = [
            end(reservation, caller="web", key=f"{name}-{reservation}")
            for reservation in ids
            for name, end in (
                ("pay", service.confirm),
                ("pay", service.confirm),
                ("back", service.release),
            )
        ]
        random.Random(1).shuffle(ends)
        return await asyncio.gather(*ends)

    answers = run(shop, work)
    statuses = Counter(
        status for (status,) in query(shop, "SELECT status FROM inventory.reservation")
    )
    assert statuses["held"] == 0
    # Of two that win, both were the same request.
    closed = sum(isinstance(answer, Closed) for answer in answers)
    assert closed == 2 * statuses["confirmed"] + statuses["released"]
    assert units(shop) == {("A", "W1"): (40 - statuses["confirmed"], 0)}


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_crossing_baskets_end(shop, strategy, locking):
    """(A, B) and (B, A), again and again: grants and refusals, and under locks no deadlock."""
    put(shop, [("A", "W1", 150), ("A", "W2", 50), ("B", "W1", 50), ("B", "W2", 150)])
    before = deadlocks(shop)

    async def work(service):
        async def buyer(number):
            lines = [("A", 1), ("B", 1)]
            return await service.reserve(
                basket(*(lines if number % 2 else reversed(lines))), strategy, locking=locking
            )

        answers = await asyncio.gather(*(buyer(number) for number in range(300)))
        # Who waits for the locks finds the rows as they are, and need not try again.
        assert locking is not Locking.TIMEOUT or service.tally.retries == 0
        return answers

    assert tally(run(shop, work)) == {"granted": 200, INSUFFICIENT: 100}
    if strategy is Strategy.PESSIMISTIC:
        assert deadlocks(shop) == before


@pytest.mark.parametrize(("strategy", "locking"), WAYS)
def test_large_baskets_of_the_same_skus_and_their_ends_do_not_deadlock(shop, strategy, locking):
    """Whatever order the lines have, or the rows in their table, which a plan may follow."""
    skus = [f"S-{number:03}" for number in range(200)]
    put(shop, [(sku, "W1", 1_000) for sku in reversed(skus)])
    before = deadlocks(shop)
    dice = random.Random(3)

    async def work(service):
        async def buyer(number):
            ask = basket(*((sku, 1) for sku in dice.sample(skus, dice.randint(20, 200))))
            granted = await service.reserve(ask, strategy, locking=locking)
            return await service.release(granted.reservation, caller="web", key=f"end-{number}")

        return await asyncio.gather(*(buyer(number) for number in range(24)))

    assert {type(answer) for answer in run(shop, work, patience=30)} == {Closed}
    assert {reserved for _, reserved in units(shop).values()} == {0}
    assert deadlocks(shop) == before


def test_sales_ends_counts_and_transfers_do_not_deadlock(shop):
    put(shop, [(sku, warehouse, 50) for sku in "ABC" for warehouse in ("W1", "W2")])
    before = deadlocks(shop)
    dice = random.Random(7)

    async def work(service):
        async def buyer(number):
            skus = dice.sample("ABC", 3)
            granted = await service.reserve(
                basket(*((sku, 2) for sku in skus)),
                Strategy.PESSIMISTIC,
                locking=dice.choice(list(Locking)),
            )
            moved = await service.transfer(
                skus[0],
                *dice.sample(["W1", "W2"], 2),
                1,
                caller="wms",
                key=f"move-{number}",
                reference="T",
            )
            if isinstance(granted, Granted):
                end = dice.choice([service.confirm, service.release])
                await end(granted.reservation, caller="web", key=f"end-{number}")
            return moved

        return await asyncio.gather(*(buyer(number) for number in range(120)))

    answers = run(shop, work)
    assert not [answer for answer in answers if answer == Refused(Reason(CONFLICT))]
    assert deadlocks(shop) == before


def test_hundreds_of_due_holds_are_each_let_go_once_by_several_workers(shop):
    put(shop, [("A", "W1", 400), ("B", "W1", 400), ("C", "W2", 400)])

    async def work(service):
        skus = [("A", "B"), ("B", "C"), ("C", "A")]
        await asyncio.gather(
            *(
                service.reserve(basket(*((sku, 1) for sku in skus[number % 3])))
                for number in range(400)
            )
        )
        query(shop, "UPDATE inventory.reservation SET held_until = clock_timestamp() RETURNING 1")
        return await asyncio.gather(*(service.expire_due() for _ in range(6)))

    ended = run(shop, work)
    assert sum(ended) == 400
    assert {reserved for _, reserved in units(shop).values()} == {0}
    assert told(shop) == {"inventory.reserved": 400, "inventory.expired": 400}


def test_a_limit_of_holds_is_kept(shop):
    put(shop, [("A", "W1", 9)])

    async def work(service):
        for _ in range(5):
            await service.reserve(basket(("A", 1), hold_seconds=0.001))
        return [await service.expire_due(limit) for limit in (2, 2, 2)]

    assert run(shop, work) == [2, 2, 1]


def test_workers_let_go_on_time_and_go_on_after_an_outage(shop, database):
    put(shop, [("A", "W1", 100)])
    ended = []

    async def work(service):
        stop = asyncio.Event()
        workers = [
            asyncio.create_task(run_expiry(service.expire_due, stop, on_expired=ended.append))
            for _ in range(2)
        ]
        query(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'stockwire-reservations' AND datname = current_database()",
        )
        async with open_pool(shop, size=2, name="buyers") as pool:
            buyers = Reservations(pool)
            for _ in range(100):
                assert isinstance(
                    await buyers.reserve(basket(("A", 1), hold_seconds=0.05)), Granted
                )
        await asyncio.to_thread(eventually, lambda: sum(ended) == 100)
        stop.set()
        await asyncio.gather(*workers)

    run(shop, work, size=2)
    [(late,)] = query(
        shop, "SELECT max(extract(epoch FROM closed_at - held_until)) FROM inventory.reservation"
    )
    assert 0 <= late < PATIENCE
    assert units(shop) == {("A", "W1"): (100, 0)}


def test_keys_and_marks_are_removed_when_they_are_old(shop, monkeypatch):
    monkeypatch.setattr(idempotency, "_CLEANED_AT_ONCE", 3)
    put(shop, [("A", "W1", 100)])

    async def work(service):
        for number in range(8):
            await service.reserve(basket(("A", 1), key=f"K-{number}"))

    run(shop, work)
    query(
        shop,
        "INSERT INTO inventory.processed_event (event_id, consumer, processed_at) "
        "SELECT n::text, 'saga', now() - n * interval '1 day' FROM generate_series(0, 9) n "
        "RETURNING 1",
    )
    query(
        shop,
        "UPDATE inventory.idempotency_key SET created_at = now() - interval '3 days' "
        "WHERE key <> 'K-7' RETURNING 1",
    )

    async def clean():
        async with open_pool(shop, size=1) as pool:
            return await idempotency.clean_up(pool, 2.5 * 24 * 3600)

    assert asyncio.run(clean()) == {"clean_idempotency_keys": 7, "clean_processed_events": 7}
    assert query(shop, "SELECT key FROM inventory.idempotency_key") == [("K-7",)]
    assert query(shop, "SELECT event_id FROM inventory.processed_event ORDER BY 1") == [
        ("0",),
        ("1",),
        ("2",),
    ]


def test_an_event_is_taken_once_by_each_consumer_and_again_if_its_effect_was_not_committed(shop):
    async def main():
        async with open_pool(shop, size=8) as pool:

            async def consume(consumer, *, fail=False):
                async with pool.connection() as connection, connection.transaction():
                    first = await idempotency.first_time(connection, "E-1", consumer)
                    if fail:
                        raise psycopg.DataError("the effect fails")
                    return first

            with pytest.raises(psycopg.DataError):
                await consume("saga", fail=True)
            return await asyncio.gather(*(consume(name) for name in ["saga"] * 6 + ["mail"] * 6))

    seen = asyncio.run(main())
    assert (sum(seen[:6]), sum(seen[6:])) == (1, 1)


def test_a_portion_is_smaller_than_what_a_worker_takes():
    assert expiry.PORTION < expiry.LIMIT


def deadlocks(conninfo) -> int:
    """How many Postgres has seen in this database, with all that sessions have to tell."""
    [(count,)] = query(
        conninfo,
        "SELECT deadlocks FROM pg_stat_get_snapshot_timestamp() RIGHT JOIN pg_stat_database "
        "ON true WHERE datname = current_database()",
    )
    return count
