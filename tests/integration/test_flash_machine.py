"""Whatever happens in whatever order: no more is granted and confirmed than was allotted."""

import asyncio

import pytest
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from reservations.basket import Closed, Granted, Reason
from reservations.flash.counter import GROUP, keys_of
from reservations.flash.settler import Settler
from tests.integration.flash_shop import shop, want

pytestmark = pytest.mark.integration

ALLOTTED, ON_HAND = 6, 9


class DiesBeforeAcknowledging(Settler):
    async def _acknowledge(self, sale, entries):
        raise SystemExit("killed")


def machine(settings, database):  # noqa: C901 - one class, in a closure
    class FlashSale(RuleBasedStateMachine):
        #: All that asked: who is granted does not depend on the examples alone.
        buyers = Bundle("buyers")

        def __init__(self):
            super().__init__()
            self.runner = asyncio.Runner()
            self.opening = shop(settings, database, size=3)
            self.shop = self.run(self.opening.__aenter__())
            self.sku = self.run(self.shop.opened(ON_HAND, ALLOTTED))
            self.confirmed = 0
            self.asked = 0
            self.granted: dict[int, Granted] = {}
            self.kept: list[dict] = []
            self.done: set = set()

        def run(self, work):
            return self.runner.run(work)

        def teardown(self):
            self.run(self.shop.settle(self.sku))
            self.run(self.shop.sound(self.sku))
            freed = self.run(self.shop.sales.close(self.sku, caller="shop"))
            held = self.run(self.shop.statuses(self.sku)).get("held", 0)
            assert freed == ALLOTTED - self.confirmed - held
            on_hand, reserved = self.run(self.shop.quantities(self.sku))
            assert (on_hand, reserved) == (ON_HAND - self.confirmed, held)
            self.run(self.opening.__aexit__(None, None, None))
            self.runner.close()

        @rule(target=buyers, units=st.lists(st.integers(1, 3), min_size=1, max_size=5))
        def buy(self, units):
            """Several at once."""
            numbers = range(self.asked, self.asked + len(units))
            self.asked += len(units)

            async def all_of_them():
                return await asyncio.gather(
                    *(
                        self.shop.sales.reserve(want(self.sku, f"b{number}", quantity))
                        for number, quantity in zip(numbers, units, strict=True)
                    )
                )

            for number, answer in zip(numbers, self.run(all_of_them()), strict=True):
                if isinstance(answer, Granted):
                    self.granted[number] = answer
            return multiple(*numbers)

        @rule(buyer=buyers)
        def confirm(self, buyer):
            grant = self.granted.get(buyer)
            if grant is None:
                return
            answer = self.run(
                self.shop.sales.confirm(
                    grant.reservation, caller="web", key=f"c{grant.reservation}"
                )
            )
            if isinstance(answer, Closed) and grant.reservation not in self.done:
                self.done.add(grant.reservation)
                self.confirmed += grant.held[0].quantity

        @rule(buyer=buyers)
        def release(self, buyer):
            grant = self.granted.get(buyer)
            if grant is None:
                return
            answer = self.run(
                self.shop.sales.release(
                    grant.reservation, caller="web", key=f"r{grant.reservation}"
                )
            )
            assert isinstance(answer, Closed) or answer.reason in (
                Reason.CLOSED,
                Reason.UNKNOWN_RESERVATION,
            )

        @rule(buyer=buyers)
        def becomes_due(self, buyer):
            grant = self.granted.get(buyer)
            if grant is None:
                return

            async def due():
                async with self.shop.pool.connection() as connection:
                    await connection.execute(
                        "UPDATE inventory.reservation SET held_until = clock_timestamp() "
                        "- interval '1 second' WHERE id = %s",
                        [grant.reservation],
                    )
                await self.shop.redis.zadd(
                    keys_of(self.sku)[1], {str(grant.reservation): 1}, xx=True
                )

            self.run(due())

        @rule()
        def expire(self):
            self.run(self.shop.sales.expire_due())

        @rule()
        def settle(self):
            self.run(self.shop.settle(self.sku))

        @rule()
        def worker_dies_after_commit(self):
            dying = DiesBeforeAcknowledging(
                self.shop.sales, self.shop.redis, "dying", wait_seconds=0.01
            )
            try:
                self.run(dying.step())
            except SystemExit:
                return

        @rule()
        def worker_dies_before_commit(self):
            async def lost():
                stream = keys_of(self.sku)[4]
                if await self.shop.redis.exists(stream):
                    await self.shop.redis.xreadgroup(GROUP, "dead", {stream: ">"})

            self.run(lost())

        @rule(everything=st.booleans())
        def flush(self, everything):
            """With the records of the stream, which may turn up late; or with nothing."""

            async def emptied():
                entries = await self.shop.redis.xrange(keys_of(self.sku)[4])
                self.kept += [] if everything else [fields for _, fields in entries]
                await self.shop.redis.flushdb()

            self.run(emptied())

        @rule()
        def turn_up_late(self):
            async def late():
                for fields in self.kept:
                    await self.shop.redis.xadd(keys_of(self.sku)[4], fields)

            self.run(late())
            self.kept = []

        @rule()
        def go_back_in_time(self):
            """Redis comes back as it was a moment ago."""

            async def back():
                names = keys_of(self.sku)
                before = {name: await self.shop.redis.dump(name) for name in names}
                await self.shop.sales.reserve(want(self.sku, f"b{self.asked}"))
                await self.shop.settle(self.sku)
                for name, value in before.items():
                    await self.shop.redis.delete(name)
                    if value is not None:
                        await self.shop.redis.restore(name, 0, value)

            self.run(back())
            self.asked += 1

        @invariant()
        def never_oversold(self):
            held = self.run(self.shop.statuses(self.sku))
            assert held.get("confirmed", 0) == self.confirmed
            assert self.confirmed + held.get("held", 0) <= ALLOTTED
            on_hand, reserved = self.run(self.shop.quantities(self.sku))
            assert on_hand == ON_HAND - self.confirmed
            # The live holds and what is not sold of the allotment.
            assert reserved == ALLOTTED - self.confirmed
            allotted, counted, sold, returned = self.run(
                self.shop.row(
                    "SELECT allotted, held, confirmed, returned FROM inventory.flash_sale "
                    "WHERE sku = %s",
                    self.sku,
                )
            )
            assert (counted, sold, returned) == (held.get("held", 0), self.confirmed, 0)
            assert reserved == counted + (allotted - counted - sold - returned)

    return FlashSale


def test_whatever_happens_nothing_is_sold_twice(settings, stack, database):
    run_state_machine_as_test(
        machine(settings, database),
        settings=examples(max_examples=25, stateful_step_count=20, deadline=None),
    )
