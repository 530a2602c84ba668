"""The orchestrator and its steps, on rows and ports in memory."""

import asyncio
from collections import Counter

import pytest
import stamina

from inventory.errors import Outage
from reservations.saga.events import CheckoutCompleted, CheckoutFailed
from reservations.saga.machine import Do, Limits, NoAnswer, State, Status, Step, Undo, Worked
from reservations.saga.orchestrator import Orchestrator
from reservations.saga.ports import Done, No
from reservations.saga.steps import Steps
from tests.polling import DEADLINE
from tests.saga_world import RowsInMemory, StockInMemory, a_command, a_saga

LIMITS = Limits(attempts=2)


class Service:
    """Payment and shipping: does what it is asked, or what it was told to."""

    def __init__(self, *orders) -> None:
        self.orders = list(orders)
        self.done: Counter[str] = Counter()
        self.calls: list[tuple[str, str]] = []

    async def _act(self, what: str, key: str, effect: int):
        self.calls.append((what, key))
        order = next((order for order in self.orders if order[0] == what), None)
        if order is not None:
            self.orders.remove(order)
            if isinstance(order[1], Exception):
                raise order[1]
            if isinstance(order[1], asyncio.Event):
                await order[1].wait()
            if isinstance(order[1], No):
                return order[1]
        self.done[key] = effect
        return Done(f"{what}-1")

    async def charge(self, key, charge):
        return await self._act("charge", key, 1)

    async def refund(self, key):
        return await self._act("refund", key, 0)

    async def ship(self, key, parcel):
        return await self._act("ship", key, 1)

    async def cancel(self, key):
        return await self._act("cancel", key, 0)


async def until(check) -> None:
    """Let the others run until it is so."""
    async with asyncio.timeout(DEADLINE):
        while not check():
            await asyncio.sleep(0)


def orchestrate(rows: RowsInMemory, stock: StockInMemory, service: Service) -> None:
    steps = Steps(stock, service, service, timeout_seconds=0.2, tries=1)
    with stamina.set_testing(True, attempts=1):
        asyncio.run(Orchestrator(rows, steps, name="test", limits=LIMITS).run_until_idle())


def test_all_goes_well():
    rows, stock, service = RowsInMemory(), StockInMemory(), Service()
    saga = rows.add(a_saga())
    orchestrate(rows, stock, service)
    assert rows.rows[saga.id].status is Status.COMPLETED
    assert [what for what, _ in service.calls] == ["charge", "ship"]
    assert (stock.available["SKU-1"], set(stock.sold)) == (9, {saga.id})
    [event] = rows.told
    assert isinstance(event, CheckoutCompleted)
    assert (event.payment, event.shipment) == ("charge-1", "ship-1")


def test_what_is_not_there_is_not_paid_for():
    rows, stock, service = RowsInMemory(), StockInMemory(), Service()
    rows.add(a_saga(a_command(quantity=11)))
    orchestrate(rows, stock, service)
    [event] = rows.told
    assert isinstance(event, CheckoutFailed)
    assert (event.step, event.reason) == (Step.RESERVE, "insufficient")
    assert [(line.sku, line.wanted, line.available) for line in event.short] == [("SKU-1", 11, 10)]
    assert service.calls == []


@pytest.mark.parametrize(
    ("orders", "step", "undone"),
    [
        ([("charge", No("declined"))], Step.PAY, []),
        ([("charge", Outage("away"))] * 2, Step.PAY, ["refund"]),
        ([("ship", No("no such place"))], Step.SHIP, ["refund"]),
        ([("ship", Outage("away"))] * 2, Step.SHIP, ["cancel", "refund"]),
        (
            [("ship", No("no")), *[("refund", Outage("away"))] * 20, ("refund", No("not yet"))],
            Step.SHIP,
            ["refund"] * 22,
        ),
    ],
)
def test_what_was_done_is_undone_in_reverse(orders, step, undone):
    rows, stock, service = RowsInMemory(), StockInMemory(), Service(*orders)
    saga = rows.add(a_saga())
    orchestrate(rows, stock, service)
    [event] = rows.told
    assert isinstance(event, CheckoutFailed)
    assert event.step is step
    assert [what for what, _ in service.calls if what in ("refund", "cancel")] == undone
    assert not +service.done
    assert (stock.available["SKU-1"], stock.held, stock.sold) == (10, {}, {})
    assert rows.rows[saga.id].records[Step.RESERVE].state is State.UNDONE


def test_a_confirmation_that_comes_too_late_undoes_all_of_it():
    class Forgetful(StockInMemory):
        async def confirm(self, reservation, *, caller, key):
            await self.release(reservation, caller="expiry", key="due")
            return await super().confirm(reservation, caller=caller, key=key)

    rows, stock, service = RowsInMemory(), Forgetful(), Service()
    rows.add(a_saga())
    orchestrate(rows, stock, service)
    assert [what for what, _ in service.calls] == ["charge", "ship", "cancel", "refund"]
    assert not +service.done
    assert stock.available["SKU-1"] == 10


def test_what_hangs_counts_as_not_answered():
    async def main():
        steps = Steps(StockInMemory(), Service(("charge", asyncio.Event())), Service())
        steps._timeout = 0.01
        return await steps.perform(a_saga(), Do(Step.PAY))

    with stamina.set_testing(True, attempts=1):
        outcome = asyncio.run(main())
    assert outcome == NoAnswer("There was no answer within 0.01 s.")


def test_an_attempt_is_some_tries():
    service = Service(("charge", Outage("away")))
    steps = Steps(StockInMemory(), service, service)
    with stamina.set_testing(True, attempts=2):
        assert asyncio.run(steps.perform(a_saga(), Do(Step.PAY))) == Worked({"number": "charge-1"})


def test_a_release_of_what_is_not_held_has_worked():
    steps = Steps(StockInMemory(), Service(), Service())
    assert asyncio.run(steps.perform(a_saga(), Undo(Step.RESERVE))) == Worked()


def test_so_many_at_once_and_no_more():
    rows, stock, gate = RowsInMemory(), StockInMemory({"SKU-1": 100}), asyncio.Semaphore(0)

    class Gated(Service):
        async def charge(self, key, charge):
            await gate.acquire()
            return await super().charge(key, charge)

    for _ in range(20):
        rows.add(a_saga())
    service = Gated()

    async def main():
        steps = Steps(stock, service, service)
        orchestrator = Orchestrator(rows, steps, name="test", at_once=3, idle_seconds=0.01)
        running = asyncio.create_task(orchestrator.run())
        await until(lambda: len(stock.held) == 3)
        assert len(rows.claimed) == 3
        # One goes, one comes.
        gate.release()
        await until(lambda: len(rows.told) == 1 and len(stock.held) == 3)
        for _ in range(20):
            gate.release()
        await until(lambda: len(rows.told) == 20)
        orchestrator.stop()
        await running

    asyncio.run(main())
    assert rows.most_claimed == 3
    assert len({event.saga for event in rows.told}) == 20


def test_stopped_it_ends_the_step_in_hand_and_gives_back_the_rest():
    rows, stock, gate = RowsInMemory(), StockInMemory(), asyncio.Event()
    service = Service(("charge", gate))
    saga = rows.add(a_saga())

    async def main():
        orchestrator = Orchestrator(rows, Steps(stock, service, service), name="test")
        running = asyncio.create_task(orchestrator.run())
        await until(lambda: bool(service.calls))
        orchestrator.stop()
        gate.set()
        await running

    asyncio.run(main())
    records = rows.rows[saga.id].records
    assert (records[Step.PAY].state, records[Step.SHIP].state) == (State.DONE, State.PENDING)
    assert not rows.claimed


def test_who_lost_the_claim_writes_nothing():
    rows, stock = RowsInMemory(), StockInMemory()
    saga = rows.add(a_saga())

    class Taken(Service):
        async def charge(self, key, charge):
            rows.claimed.discard(saga.id)
            await rows.claim(1, claimed_by="another", lease_seconds=30)
            return await super().charge(key, charge)

    orchestrate(rows, stock, Taken())
    assert rows.rows[saga.id].records[Step.PAY].state is State.PENDING
    assert rows.told == []


def test_a_fault_of_the_program_is_not_hidden():
    rows, service = RowsInMemory(), Service(("charge", KeyError("a bug")))
    rows.add(a_saga())
    with pytest.raises(ExceptionGroup) as caught:
        orchestrate(rows, StockInMemory(), service)
    assert caught.group_contains(KeyError)


def test_a_claim_lasts_longer_than_a_step():
    steps = Steps(StockInMemory(), Service(), Service(), timeout_seconds=20, tries=2)
    with pytest.raises(ValueError, match="may end within a step"):
        Orchestrator(RowsInMemory(), steps, name="test")


def test_it_says_when_sagas_cannot_be_claimed_and_when_they_can_again():
    class Away(RowsInMemory):
        outages = 3

        async def claim(self, most, *, claimed_by, lease_seconds):
            if self.outages:
                self.outages -= 1
                raise Outage("Postgres is away")
            return await super().claim(most, claimed_by=claimed_by, lease_seconds=lease_seconds)

    rows, told, service = Away(), [], Service()
    rows.add(a_saga())

    async def main():
        steps = Steps(StockInMemory(), service, service)
        orchestrator = Orchestrator(rows, steps, name="test", idle_seconds=0.001, tell=told.append)
        running = asyncio.create_task(orchestrator.run())
        await until(lambda: len(rows.told) == 1)
        orchestrator.stop()
        await running

    asyncio.run(main())
    assert told[:4] == ["Postgres is away"] * 3 + [None]
    assert set(told[4:]) <= {None}
