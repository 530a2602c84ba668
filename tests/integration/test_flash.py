"""Flash sales on a real Redis and Postgres, with real concurrency, losses and crashes."""

import asyncio
from collections import Counter
from contextlib import ExitStack
from uuid import uuid4

import orjson
import pytest
from pydantic import RedisDsn

from inventory.errors import Outage
from reservations.basket import Closed, Granted, Reason, Refused, Reserve
from reservations.events import read_event
from reservations.flash import FlashSales
from reservations.flash.counter import GROUP, keys_of
from reservations.flash.guard import FlashGuard
from reservations.flash.settler import Settler
from tests.integration.flash_shop import Shop, shop, want
from tests.integration.own_redis import own_redis
from tests.keeper_world import free_port

pytestmark = pytest.mark.integration


@pytest.fixture
def run(settings, database):
    """Runs a coroutine function with a shop of its own."""

    def run(story):
        async def told():
            async with shop(settings, database) as opened:
                return await asyncio.wait_for(story(opened), 120)

        return asyncio.run(told())

    return run


def reason(answer) -> Reason | None:
    return answer.reason if isinstance(answer, Refused) else None


class TestAllotment:
    def test_units_are_reserved_before_redis_has_them_and_free_again_after(self, run):
        async def story(shop: Shop):
            await shop.stock("A-1", 10, safety_stock=3)
            assert (
                reason(await shop.sales.open("A-1", "W1", 8, caller="shop", reference="S"))
                is Reason.INSUFFICIENT
            )
            sale = await shop.sales.open("A-1", "W1", 7, caller="shop", reference="S")
            assert await shop.quantities("A-1") == (10, 7)
            assert await shop.left("A-1") == 7
            assert (
                reason(await shop.sales.open("A-1", "W1", 1, caller="shop", reference="S"))
                is Reason.CONFLICT
            )
            assert await shop.quantities("A-1") == (10, 7)
            row = await shop.row(
                "SELECT version, reason, reference, caused_by FROM inventory.stock "
                "WHERE sku = 'A-1'"
            )
            assert row == (sale.stock_version, "reserve", "S", "shop")
            held = await shop.granted("A-1", "b")
            assert held.held[0].version == sale.stock_version
            assert await shop.sales.close("A-1", caller="shop") == 6
            assert await shop.quantities("A-1") == (10, 1)
            assert reason(await shop.sales.reserve(want("A-1", "late"))) is Reason.SOLD_OUT
            # The same key has the same answer for as long as keys are kept.
            assert await shop.sales.reserve(want("A-1", "b")) == held
            await shop.redis.flushdb()
            assert reason(await shop.sales.reserve(want("A-1", "late"))) is Reason.SOLD_OUT
            assert await shop.sales.reserve(want("A-1", "b")) == held
            assert isinstance(
                await shop.sales.confirm(held.reservation, caller="web", key="c"), Closed
            )
            assert await shop.quantities("A-1") == (9, 0)

        run(story)

    def test_what_there_is_not(self, run):
        async def story(shop: Shop):
            assert (
                reason(await shop.sales.open("NONE", "W1", 1, caller="shop", reference="S"))
                is Reason.UNKNOWN_SKU
            )
            assert reason(await shop.sales.reserve(want("NONE", "b"))) is Reason.UNKNOWN_SKU
            sku = await shop.opened(3)
            other = want(sku, "b", warehouses=("W2",))
            assert reason(await shop.sales.reserve(other)) is Reason.INSUFFICIENT
            unknown = await shop.sales.confirm(uuid4(), caller="web", key="u")
            assert reason(unknown) is Reason.UNKNOWN_RESERVATION

        run(story)

    def test_a_later_sale_of_the_sku_knows_who_was_answered(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(4, 2)
            first = await shop.granted(sku, "b")
            await shop.sales.close(sku, caller="shop")
            await shop.sales.open(sku, "W1", 2, caller="shop", reference="S2")
            assert await shop.sales.reserve(want(sku, "b")) == first
            assert await shop.left(sku) == 2

        run(story)


class TestGrant:
    def test_the_same_key_has_the_same_answer_and_belongs_to_one_request(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(5)
            answers = await asyncio.gather(
                *(shop.sales.reserve(want(sku, "b", 2)) for _ in range(20))
            )
            assert len(set(answers)) == 1
            assert await shop.left(sku) == 3
            assert reason(await shop.sales.reserve(want(sku, "b", 1))) is Reason.KEY_REUSED
            await shop.settle(sku)
            assert await shop.statuses(sku) == {"held": 2}

        run(story)

    def test_sold_out_is_said_when_nothing_can_come_back_and_not_before(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(1)
            held = await shop.granted(sku, "first")
            refused = await shop.sales.reserve(want(sku, "second"))
            assert isinstance(refused, Refused)
            assert refused.reason is Reason.INSUFFICIENT
            assert refused.short[0].available == 0
            await shop.sales.confirm(held.reservation, caller="web", key=f"c1/{sku}")
            assert reason(await shop.sales.reserve(want(sku, "second"))) is Reason.SOLD_OUT
            assert await shop.quantities(sku) == (0, 0)

        run(story)

    @pytest.mark.parametrize(("buyers", "units", "repeats"), [(500, 1, 20), (2000, 100, 1)])
    def test_as_many_buyers_win_as_there_are_units(self, run, buyers, units, repeats):
        async def once(shop: Shop):
            sku = await shop.opened(units + 7, units)
            stop = asyncio.Event()
            settlers = [
                asyncio.create_task(shop.settler(name).run(stop)) for name in ("one", "two")
            ]
            answers = await asyncio.gather(
                *(shop.sales.reserve(want(sku, f"b{n}")) for n in range(buyers))
            )
            winners = [answer for answer in answers if isinstance(answer, Granted)]
            assert len(winners) == units
            assert len({winner.reservation for winner in winners}) == units
            await shop.settle(sku)
            stop.set()
            await asyncio.gather(*settlers)
            assert await shop.statuses(sku) == {"held": units}
            assert await shop.quantities(sku) == (units + 7, units)
            outcomes = Counter(
                type(answer)
                for answer in await asyncio.gather(
                    *(
                        shop.sales.confirm(w.reservation, caller="web", key=f"c{w.reservation}")
                        for w in winners
                    )
                )
            )
            assert outcomes == {Closed: units}
            assert await shop.quantities(sku) == (7, 0)
            await shop.sound(sku)
            await shop.sales.close(sku, caller="shop")

        async def story(shop: Shop):
            for _ in range(repeats):
                await once(shop)

        run(story)


class TestEnds:
    def test_a_hold_is_known_to_postgres_before_any_worker_came(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(2)
            held = await shop.granted(sku, "b")
            closed = await shop.sales.confirm(held.reservation, caller="web", key=f"c/{sku}")
            assert isinstance(closed, Closed)
            assert (
                await shop.sales.confirm(held.reservation, caller="web", key=f"c/{sku}") == closed
            )
            assert await shop.quantities(sku) == (1, 1)
            await shop.settle(sku)
            assert await shop.statuses(sku) == {"confirmed": 1}
            await shop.sound(sku)

        run(story)

    def test_a_released_unit_is_the_sales_again_and_stays_reserved(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(1)
            held = await shop.granted(sku, "b")
            closed = await shop.sales.release(held.reservation, caller="web", key=f"r/{sku}")
            assert isinstance(closed, Closed)
            assert (
                await shop.sales.release(held.reservation, caller="web", key=f"r/{sku}") == closed
            )
            assert await shop.left(sku) == 1
            assert await shop.quantities(sku) == (1, 1)
            again = await shop.granted(sku, "c")
            assert again.reservation != held.reservation
            refused = await shop.sales.confirm(held.reservation, caller="web", key=f"c/{sku}")
            assert reason(refused) is Reason.CLOSED
            await shop.sound(sku)

        run(story)

    def test_holds_that_are_due_come_back_settled_or_not_once(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(4)
            settled = await shop.granted(sku, "settled", hold_seconds=0.2)
            await shop.settle(sku)
            lying = await shop.granted(sku, "lying", 2, hold_seconds=0.2)
            settlers = [shop.settler("one"), shop.settler("two")]
            async with asyncio.timeout(10):
                while await shop.left(sku) != 4:
                    for settler in settlers:
                        settler._kept_house = float("-inf")
                    await asyncio.gather(
                        *(settler.step() for settler in settlers),
                        *(shop.sales.expire_due() for _ in range(3)),
                    )
            assert await shop.statuses(sku) == {"expired": 3}
            for each in (settled, lying):
                answer = await shop.sales.confirm(
                    each.reservation, caller="web", key=f"c{each.reservation}"
                )
                assert reason(answer) is Reason.EXPIRED
            assert await shop.quantities(sku) == (4, 4)
            await shop.sound(sku)

        run(story)

    def test_ordinary_expiry_leaves_them_to_the_sale(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(2)
            await shop.granted(sku, "a", hold_seconds=0.001)
            await shop.settle(sku)
            assert await shop.sales._reservations.expire_due() == 0
            assert await shop.sales.expire_due() == 1
            assert await shop.left(sku) == 2
            assert await shop.quantities(sku) == (2, 2)

        run(story)

    def test_a_hold_of_a_closed_sale_frees_its_units(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(3)
            first = await shop.granted(sku, "a")
            await shop.granted(sku, "b", hold_seconds=0.2)
            assert await shop.sales.close(sku, caller="shop") == 1
            assert await shop.quantities(sku) == (3, 2)
            await shop.sales.release(first.reservation, caller="web", key=f"r/{sku}")
            assert await shop.quantities(sku) == (3, 1)
            async with asyncio.timeout(10):
                while not await shop.sales.expire_due():
                    await asyncio.sleep(0.02)
            assert await shop.quantities(sku) == (3, 0)
            row = await shop.row(
                "SELECT held, confirmed, returned FROM inventory.flash_sale WHERE sku = %s", sku
            )
            assert row == (0, 0, 3)

        run(story)

    def test_an_end_that_redis_was_not_told_of_is_told_by_the_sweep(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(2)
            held = await shop.granted(sku, "a", hold_seconds=0.5)
            await shop.settle(sku)
            # The service dies between Postgres and Redis.
            let_go = await shop.sales._ledger.release(
                held.reservation, caller="web", key=f"r/{sku}"
            )
            assert let_go is not None
            assert await shop.left(sku) == 1
            drift = await shop.sales.reconcile(sku)
            assert drift is not None
            assert drift.sound
            assert drift.untold == (held.reservation,)
            async with asyncio.timeout(10):
                while await shop.left(sku) != 2:
                    await shop.settle(sku)

        run(story)

    def test_what_ends_as_an_ordinary_reservation_leaves_the_sale(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(3)
            sold, freed = await shop.granted(sku, "a"), await shop.granted(sku, "b")
            await shop.settle(sku)
            plain = shop.sales._reservations
            await plain.confirm(sold.reservation, caller="web", key=f"c/{sku}")
            await plain.release(freed.reservation, caller="web", key=f"r/{sku}")
            assert await shop.quantities(sku) == (2, 1)
            drift = await shop.sales.reconcile(sku, mend=True)
            assert drift is not None
            assert drift.sound, drift
            assert await shop.left(sku) == 1
            assert await shop.sales.close(sku, caller="shop") == 1
            assert await shop.quantities(sku) == (2, 0)

        run(story)


class TestLoss:
    def test_nothing_is_sold_twice_when_redis_is_emptied_in_mid_sale(self, run):
        async def story(shop: Shop):
            units = 40
            sku = await shop.opened(units)
            early = [await shop.granted(sku, f"early{n}") for n in range(15)]
            await shop.settle(sku)
            await shop.sales.confirm(early[0].reservation, caller="web", key=f"first/{sku}")
            unseen = [await shop.granted(sku, f"unseen{n}") for n in range(5)]
            await shop.redis.flushdb()
            answers = await asyncio.gather(
                *(shop.sales.reserve(want(sku, f"late{n}")) for n in range(200))
            )
            late = [answer for answer in answers if isinstance(answer, Granted)]
            assert len(late) == units - 15
            # Who was answered and settled is answered the same again.
            assert await shop.sales.reserve(want(sku, "early3")) == early[3]
            await shop.settle(sku)
            outcomes = Counter()
            for grant in [*early[1:], *unseen, *late]:
                answer = await shop.sales.confirm(
                    grant.reservation, caller="web", key=f"c{grant.reservation}"
                )
                outcomes[reason(answer) or "sold"] += 1
            assert outcomes == {"sold": units - 1, Reason.UNKNOWN_RESERVATION: 5}
            assert await shop.quantities(sku) == (0, 0)
            await shop.sound(sku)

        run(story)

    def test_nothing_is_sold_twice_when_the_server_itself_dies(self, settings, database, tmp_path):
        """It is gone while hundreds ask, and comes back with nothing."""
        units, port = 60, free_port()
        away = settings.model_copy(update={"redis_url": RedisDsn(f"redis://127.0.0.1:{port}/0")})

        async def buyer(shop: Shop, sku: str, name: str):
            while True:
                try:
                    answer = await shop.sales.reserve(want(sku, name))
                    if isinstance(answer, Refused):
                        return answer.reason
                    return await shop.sales.confirm(
                        answer.reservation, caller="web", key=f"{answer.reservation}"
                    )
                except Outage:
                    # Under the same key, as everybody is told to.
                    await asyncio.sleep(0.02)

        async def story():
            with ExitStack() as servers:
                servers.enter_context(own_redis(tmp_path, port))
                async with shop(away, database) as opened:
                    sku = await opened.opened(units)
                    buyers = [
                        asyncio.create_task(buyer(opened, sku, f"b{n}")) for n in range(3 * units)
                    ]
                    await asyncio.wait(buyers, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.to_thread(servers.close)
                    assert not all(buyer.done() for buyer in buyers), "it died too late"
                    await asyncio.to_thread(servers.enter_context, own_redis(tmp_path, port))
                    answers = await asyncio.gather(*buyers)
                    sold = sum(isinstance(answer, Closed) for answer in answers)
                    await opened.settle(sku)
                    held = (await opened.statuses(sku)).get("held", 0)
                    assert sold + held + await opened.left(sku) == units
                    assert await opened.quantities(sku) == (units - sold, units - sold)
                    await opened.sound(sku)

        asyncio.run(asyncio.wait_for(story(), 120))

    def test_a_loss_is_noticed_by_the_worker_too_and_a_hold_of_it_comes_back(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(3)
            held = await shop.granted(sku, "a")
            await shop.settle(sku)
            await shop.redis.flushdb()
            await shop.settler().step()
            assert await shop.left(sku) == 2
            await shop.sales.release(held.reservation, caller="web", key=f"r/{sku}")
            assert await shop.left(sku) == 3
            await shop.sound(sku)

        run(story)

    @pytest.mark.parametrize(("taken", "confirmed"), [(1, True), (2, False)])
    def test_a_grant_of_an_earlier_epoch_is_settled_only_if_units_are_left(
        self, run, taken, confirmed
    ):
        async def story(shop: Shop):
            sku = await shop.opened(2)
            late = await shop.granted(sku, "late")
            stream = keys_of(sku)[4]
            ((_, fields),) = await shop.redis.xrange(stream)
            await shop.redis.flushdb()
            others = [await shop.granted(sku, f"o{n}") for n in range(taken)]
            await shop.redis.xadd(stream, fields)
            await shop.settle(sku)
            answer = await shop.sales.confirm(late.reservation, caller="web", key=f"late/{sku}")
            assert isinstance(answer, Closed) is confirmed
            for other in others:
                answer = await shop.sales.confirm(
                    other.reservation, caller="web", key=f"c{other.reservation}"
                )
                assert isinstance(answer, Closed)
            assert await shop.left(sku) == 0
            await shop.sound(sku)

        run(story)

    def test_a_counter_that_went_back_in_time_grants_nothing_twice(self, run):
        """As after a restart from an older file, or a failover to a replica that was behind."""

        async def story(shop: Shop):
            sku = await shop.opened(2)
            names = keys_of(sku)
            older = {name: await shop.redis.dump(name) for name in names}
            early = [await shop.granted(sku, f"early{n}") for n in range(2)]
            await shop.settle(sku)
            for name in names:
                await shop.redis.delete(name)
                if older[name] is not None:
                    await shop.redis.restore(name, 0, older[name])
            # Nobody has noticed yet: Redis promises, Postgres does not.
            promised = await shop.granted(sku, "promised")
            drift = await shop.sales.reconcile(sku)
            assert drift is not None
            assert not drift.sound
            answer = await shop.sales.confirm(promised.reservation, caller="web", key=f"p/{sku}")
            assert reason(answer) is Reason.UNKNOWN_RESERVATION
            await shop.settle(sku)
            assert await shop.left(sku) == 0
            for grant in early:
                answer = await shop.sales.confirm(
                    grant.reservation, caller="web", key=f"c{grant.reservation}"
                )
                assert isinstance(answer, Closed)
            await shop.sound(sku)

        run(story)

    def test_a_counter_of_an_earlier_epoch_sells_nothing_any_more(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(2)
            names = keys_of(sku)
            older = {name: await shop.redis.dump(name) for name in names}
            await shop.redis.flushdb()
            winners = [await shop.granted(sku, f"w{n}") for n in range(2)]
            await shop.settle(sku)

            async def restore():
                for name in names:
                    await shop.redis.delete(name)
                    if older[name] is not None:
                        await shop.redis.restore(name, 0, older[name])

            await restore()
            assert await shop.left(sku) == 2
            refused = await shop.sales.reserve(want(sku, "known"))
            assert reason(refused) is Reason.INSUFFICIENT
            assert await shop.left(sku) == 0
            # A process that has just started does not know; what it promises is not confirmed.
            await restore()
            fresh = FlashSales(shop.pool, shop.redis)
            promised = await fresh.reserve(want(sku, "unknown"))
            assert isinstance(promised, Granted)
            answer = await fresh.confirm(promised.reservation, caller="web", key=f"p/{sku}")
            assert reason(answer) is Reason.UNKNOWN_RESERVATION
            await shop.settler().step()
            assert reason(await fresh.reserve(want(sku, "later"))) is Reason.INSUFFICIENT
            await shop.settle(sku)
            for grant in winners:
                answer = await shop.sales.confirm(
                    grant.reservation, caller="web", key=f"c{grant.reservation}"
                )
                assert isinstance(answer, Closed)
            await shop.sound(sku)

        run(story)

    def test_a_counter_of_a_transaction_that_failed_is_replaced(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(2)
            await shop.redis.hset(keys_of(sku)[0], "epoch", 9)
            await shop.granted(sku, "a")
            await shop.settler().step()
            assert int(await shop.redis.hget(keys_of(sku)[0], "epoch")) == 10
            await shop.settle(sku)
            assert await shop.statuses(sku) == {"held": 1}
            await shop.sound(sku)

        run(story)

    def test_a_counter_with_too_many_units_is_said_to_drift_and_mended(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(5)
            await shop.granted(sku, "a")
            await shop.redis.hset(keys_of(sku)[0], "left", 40)
            drift = await shop.sales.reconcile(sku, mend=True)
            assert drift is not None
            assert (drift.sound, drift.left, drift.expected, drift.unsettled) == (False, 40, 4, 1)
            await shop.settle(sku)
            assert await shop.left(sku) == 4
            await shop.sound(sku)

        run(story)

    def test_what_is_granted_from_too_many_units_is_not_confirmed(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(1)
            await shop.redis.hset(keys_of(sku)[0], "left", 3)
            grants = [await shop.granted(sku, f"b{n}") for n in range(3)]
            answers = [
                await shop.sales.confirm(g.reservation, caller="web", key=f"c{g.reservation}")
                for g in grants
            ]
            assert [reason(answer) for answer in answers] == [
                None,
                Reason.UNKNOWN_RESERVATION,
                Reason.UNKNOWN_RESERVATION,
            ]
            assert await shop.quantities(sku) == (0, 0)
            await shop.sound(sku)

        run(story)

    def test_the_scripts_may_be_forgotten(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(1)
            await shop.redis.script_flush()
            await shop.granted(sku, "a")

        run(story)


class DiesBeforeAcknowledging(Settler):
    async def _acknowledge(self, sale, entries):
        raise SystemExit("killed")


class TestSettlement:
    def test_what_a_dead_worker_had_in_hand_is_claimed_and_has_one_effect(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(10)
            for n in range(6):
                await shop.granted(sku, f"b{n}")
            dying = DiesBeforeAcknowledging(shop.sales, shop.redis, "dying", wait_seconds=0.01)
            with pytest.raises(SystemExit):
                await dying.step()
            assert await shop.statuses(sku) == {"held": 6}
            stream = keys_of(sku)[4]
            assert (await shop.redis.xpending(stream, GROUP))["pending"] == 6
            assert await shop.settler("later").step() == 0, "not yet: the other one may be slow"
            await shop.settle(sku)
            assert (await shop.redis.xpending(stream, GROUP))["pending"] == 0
            assert await shop.statuses(sku) == {"held": 6}
            events = await shop.row(
                "SELECT count(*) FROM inventory.outbox o JOIN inventory.reservation_line l "
                "ON l.reservation::text = o.aggregateid WHERE l.sku = %s",
                sku,
            )
            assert events == (6,)
            await shop.sound(sku)

        run(story)

    def test_what_a_worker_had_read_when_it_died_before_postgres_is_settled(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(3)
            await shop.granted(sku, "a")
            await shop.redis.xreadgroup(GROUP, "dead", {keys_of(sku)[4]: ">"})
            await shop.settle(sku)
            assert await shop.statuses(sku) == {"held": 1}

        run(story)

    def test_everything_of_a_reservation_is_written(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(3)
            held = await shop.granted(sku, "ORD-7", 2)
            await shop.settle(sku)
            row = await shop.row(
                "SELECT r.caller, r.reference, r.strategy, r.status, r.held_until, l.sku, "
                "l.warehouse, l.quantity FROM inventory.reservation r "
                "JOIN inventory.reservation_line l ON l.reservation = r.id WHERE r.id = %s",
                held.reservation,
            )
            assert row == ("web", "ORD-7", "redis", "held", held.held_until, sku, "W1", 2)
            type_, payload = await shop.row(
                "SELECT type, payload FROM inventory.outbox WHERE aggregateid = %s",
                str(held.reservation),
            )
            event = read_event(type_, payload)
            assert event.reservation == held.reservation
            assert event.strategy == "redis"
            await shop.sales.release(held.reservation, caller="web", key=f"r/{sku}")
            type_, payload = await shop.row(
                "SELECT type, payload FROM inventory.outbox WHERE aggregateid = %s "
                "AND type <> 'inventory.reserved'",
                str(held.reservation),
            )
            assert read_event(type_, payload).type == "inventory.released"
            # The ordinary service finds the answers that were kept.
            kept = await shop.sales._reservations.reserve(want(sku, "ORD-7", 2))
            assert kept == held

        run(story)

    def test_a_key_that_postgres_has_answered_gives_its_units_back(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(5, 3)
            plain = await shop.sales._reservations.reserve(want(sku, "b", 2))
            assert isinstance(plain, Granted)
            twice = await shop.granted(sku, "b", 2)
            await shop.settle(sku)
            assert await shop.left(sku) == 3
            answer = await shop.sales.confirm(twice.reservation, caller="web", key=f"c/{sku}")
            assert reason(answer) is Reason.UNKNOWN_RESERVATION
            await shop.sound(sku)

        run(story)

    def test_nobody_settles_into_a_closed_sale(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(2)
            await shop.granted(sku, "a")
            stream = keys_of(sku)[4]
            ((_, fields),) = await shop.redis.xrange(stream)
            await shop.redis.flushdb()
            await shop.sales.close(sku, caller="shop")
            await shop.sales.open(sku, "W1", 2, caller="shop", reference="S2")
            await shop.redis.xadd(stream, fields)
            await shop.settle(sku)
            assert await shop.statuses(sku) == {}
            assert await shop.quantities(sku) == (2, 2)

        run(story)

    def test_a_record_that_nobody_can_read_blocks_nobody(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(2)
            await shop.redis.xadd(keys_of(sku)[4], {"grant": "nonsense"})
            await shop.granted(sku, "a")
            await shop.settle(sku)
            assert await shop.statuses(sku) == {"held": 1}

        run(story)


class TestGuard:
    def test_buyers_are_served_in_their_order_and_told_when_it_is_over(self, run):
        async def story(shop: Shop):
            sku = await shop.opened(50)
            guard = FlashGuard(shop.sales.reserve_all, patience_seconds=30)
            buyers = [asyncio.create_task(guard.reserve(want(sku, f"b{n}"))) for n in range(1000)]
            await asyncio.wait(buyers[:50])
            won = [task.result() for task in buyers[:50]]
            assert all(isinstance(answer, Granted) for answer in won)
            assert not any(task.done() for task in buyers[50:]), "units may still come back"
            # One comes back: it is of him who waits longest.
            await shop.sales.release(won[7].reservation, caller="web", key=f"r/{sku}")
            answer = await buyers[50]
            assert isinstance(answer, Granted)
            for grant in [*won[:7], *won[8:], answer]:
                await shop.sales.confirm(
                    grant.reservation, caller="web", key=f"c{grant.reservation}"
                )
            rest = await asyncio.gather(*buyers[51:])
            assert {reason(answer) for answer in rest} == {Reason.SOLD_OUT}
            assert await shop.quantities(sku) == (0, 0)

        run(story)


def test_the_record_of_redis_is_the_one_of_python(run):
    from reservations.flash.grant import decode_grant

    async def story(shop: Shop):
        sku = await shop.opened(2)
        request = Reserve("wéb", 'k"1 2', "Ö 1", want(sku, "x").lines)
        assert isinstance(await shop.sales.reserve(request), Granted)
        (record,) = await shop.redis.hvals(keys_of(sku)[2])
        assert decode_grant(record).encode() == record
        assert orjson.loads(record.split(b" ", 6)[6])[0] == "wéb"

    run(story)


def test_two_processes_rebuild_once(run):
    async def story(shop: Shop):
        sku = await shop.opened(8)
        others = [FlashSales(shop.pool, shop.redis) for _ in range(6)]
        await shop.redis.flushdb()
        await asyncio.gather(*(o.reserve(want(sku, f"b{n}")) for n, o in enumerate(others)))
        assert int(await shop.redis.hget(keys_of(sku)[0], "epoch")) == 2
        assert await shop.left(sku) == 2
        await shop.sound(sku)

    run(story)
