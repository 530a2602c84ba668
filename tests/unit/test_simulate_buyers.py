"""Who comes when, and that all of them are let in at once."""

import asyncio

import pytest

from inventory.errors import Outage
from reservations.basket import Reason
from simulate.buyers import Buyer, Rush, Told, let_in


class Shelf:
    """Sells in one step, as nothing real can."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.retries = 0
        self.asked: list[int] = []

    async def sell(self, buyer: Buyer) -> Told:
        self.asked.append(buyer.number)
        if self.units < 1:
            return Told(granted=False, reason=Reason.INSUFFICIENT)
        self.units -= 1
        return Told(granted=True)


class Together(Shelf):
    """Answers nobody before all have asked."""

    def __init__(self, buyers: int) -> None:
        super().__init__(0)
        self.buyers = buyers
        self.everybody = asyncio.Event()

    async def sell(self, buyer: Buyer) -> Told:
        told = await super().sell(buyer)
        if len(self.asked) == self.buyers:
            self.everybody.set()
        await self.everybody.wait()
        return told


class Broken(Shelf):
    async def sell(self, buyer: Buyer) -> Told:
        if buyer.number == 3:
            raise Outage("Postgres is gone.")
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


def test_the_same_seed_gives_the_same_arrivals_and_another_others():
    rush = Rush(50, 1, within=2.0, seed=4)
    assert rush.plan() == Rush(50, 7, within=2.0, seed=4).plan()
    assert rush.plan() != Rush(50, 1, within=2.0, seed=5).plan()


def test_buyers_come_in_order_within_the_time_and_each_once():
    plan = Rush(200, 1, within=2.0).plan()
    times = [buyer.arrives for buyer in plan]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= 2.0
    assert sorted(buyer.number for buyer in plan) == list(range(200))
    assert [buyer.number for buyer in plan] != list(range(200))


def test_all_at_once_they_come_by_number():
    plan = Rush(20, 1, within=0).plan()
    assert [(buyer.number, buyer.arrives) for buyer in plan] == [(n, 0.0) for n in range(20)]


@pytest.mark.parametrize("wrong", [(0, 1), (1, 0), (1, 1, -0.1)])
def test_what_is_no_rush_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 1 buyer"):
        Rush(*wrong)


def test_everybody_is_let_in_as_planned_and_answered():
    plan = Rush(30, 5, within=0.05).plan()
    shelf = Shelf(5)
    visits = asyncio.run(let_in(plan, shelf))
    assert sorted(visit.buyer.number for visit in visits) == list(range(30))
    assert [visit.arrived for visit in visits] == sorted(visit.arrived for visit in visits)
    assert all(visit.arrived <= visit.answered for visit in visits)
    assert sum(visit.told.granted for visit in visits) == 5


def test_nobody_waits_for_anothers_answer_before_asking():
    async def run():
        return await let_in(Rush(40, 1, within=0).plan(), Together(40))

    assert len(asyncio.run(asyncio.wait_for(run(), 30))) == 40


def test_an_outage_ends_the_rush_and_comes_as_itself():
    with pytest.raises(Outage, match="gone"):
        asyncio.run(asyncio.wait_for(let_in(Rush(10, 1, within=0).plan(), Broken(1)), 30))
