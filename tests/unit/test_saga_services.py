"""The ports over HTTP against the fake services: whatever goes wrong, money moves once."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from inventory.errors import Outage
from reservations.saga.http import HttpPayment, HttpShipping, open_client
from reservations.saga.ports import Charge, Done, No, Parcel
from simulate.services import Entry, Fault, Services

CHARGE = Charge(999, "EUR", "card-1", "ORDER-1")
PARCEL = Parcel((("SKU-1", 2), ("SKU-2", 1)), "Somewhere 1", "ORDER-1")

#: Longer than any answer takes here, unless one never comes.
PATIENCE = 1.0


class World:
    def __init__(self, services: Services, http: httpx.AsyncClient) -> None:
        self.services = services
        self.http = http
        self.payment = HttpPayment(http)
        self.shipping = HttpShipping(http)


def run(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Services() as services, open_client(services.url, timeout_seconds=PATIENCE) as h:
            await scenario(World(services, h))

    asyncio.run(main())


def test_money_is_taken_once_and_given_back_once():
    async def scenario(world: World) -> None:
        first = await world.payment.charge("k", CHARGE)
        assert first == await world.payment.charge("k", CHARGE)
        assert isinstance(first, Done)
        assert await world.payment.refund("k") == await world.payment.refund("k")
        assert world.services.ledger == [Entry("charge", "k", 999), Entry("refund", "k", -999)]
        assert isinstance(await world.payment.charge("k", CHARGE), No)
        assert world.services.balance("k") == 0

    run(scenario)


def test_a_parcel_is_sent_once_and_called_off_once():
    async def scenario(world: World) -> None:
        assert await world.shipping.ship("k", PARCEL) == await world.shipping.ship("k", PARCEL)
        assert isinstance(await world.shipping.cancel("k"), Done)
        assert isinstance(await world.shipping.ship("k", PARCEL), No)
        assert world.services.ledger == [Entry("ship", "k", 3), Entry("cancel", "k", -3)]

    run(scenario)


def test_another_request_under_the_same_key_is_refused():
    async def scenario(world: World) -> None:
        await world.payment.charge("k", CHARGE)
        answer = await world.payment.charge("k", Charge(1, "EUR", "card-1", "ORDER-1"))
        assert answer == No("another request under the same key")
        assert world.services.balance("k") == 999

    run(scenario)


@pytest.mark.parametrize("fault", [Fault.FAIL, Fault.HANG, Fault.LOSE, Fault.LATE, Fault.MIX_UP])
def test_what_is_no_clear_answer_is_an_outage(fault):
    async def scenario(world: World) -> None:
        world.services.go_wrong("payments", fault)
        with pytest.raises(Outage):
            await world.payment.charge("k", CHARGE)
        assert world.services.balance("k") == (999 if fault is Fault.LOSE else 0)
        assert isinstance(await world.payment.charge("k", CHARGE), Done)
        world.services.arrive_late()
        assert world.services.ledger == [Entry("charge", "k", 999)]

    run(scenario)


def test_a_charge_that_arrives_after_its_refund_comes_to_nothing():
    async def scenario(world: World) -> None:
        world.services.go_wrong("payments", Fault.LATE)
        with pytest.raises(Outage):
            await world.payment.charge("k", CHARGE)
        assert isinstance(await world.payment.refund("k"), Done)
        world.services.arrive_late()
        assert world.services.ledger == []

    run(scenario)


def test_a_second_answer_is_not_taken_for_that_of_the_next_question():
    async def scenario(world: World) -> None:
        world.services.go_wrong("payments", Fault.TWICE, 3)
        for number in range(6):
            answer: object = None
            while not isinstance(answer, Done):
                try:
                    answer = await world.payment.charge(f"k{number}", CHARGE)
                except Outage:
                    continue
            assert answer.number == f"payment-{number + 1}"
        assert world.services.ledger == [Entry("charge", f"k{n}", 999) for n in range(6)]

    run(scenario)


def test_a_service_that_is_not_there_is_an_outage():
    async def scenario(world: World) -> None:
        await world.services._runner.cleanup()
        with pytest.raises(Outage, match="does not answer"):
            await world.payment.refund("k")

    run(scenario)


def test_told_over_http_what_goes_wrong_and_asked_what_was_done():
    async def scenario(world: World) -> None:
        ordered = {"path": "refund", "fault": "fail", "times": 2}
        assert (await world.http.post("/faults", json=ordered)).status_code == 204
        for _ in range(2):
            with pytest.raises(Outage, match="503"):
                await world.payment.refund("k")
        await world.payment.refund("k")
        await world.payment.charge("other", CHARGE)
        ledger = (await world.http.get("/ledger")).json()
        assert ledger == [{"kind": "charge", "key": "other", "amount": 999}]
        assert (await world.http.post("/late")).status_code == 204

    run(scenario)


def test_declined_is_an_answer():
    async def scenario(world: World) -> None:
        world.services.go_wrong("payments", Fault.DECLINE)
        assert await world.payment.charge("k", CHARGE) == No("declined")
        world.services.go_wrong("cancellation", Fault.DECLINE)
        assert await world.shipping.cancel("k") == No("declined")

    run(scenario)
