"""Sagas in Postgres: taken in once, claimed by one, written by who holds the claim."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from reservations.pool import open_pool
from reservations.saga.http import HttpPayment, HttpShipping, open_client
from reservations.saga.machine import (
    Declined,
    Do,
    Limits,
    Saga,
    Status,
    Step,
    Undo,
    Worked,
    apply,
)
from reservations.saga.orchestrator import Orchestrator
from reservations.saga.ports import Done, No
from reservations.saga.steps import Steps
from reservations.saga.store import Sagas
from reservations.service import Reservations
from simulate.services import Fault
from tests.database import as_role
from tests.integration.saga_books import check_books, let_time_pass, put_up, services_beside
from tests.saga_world import a_command

pytestmark = pytest.mark.integration


@pytest.fixture
def sagas(database):
    """No sagas and nothing told; runs what is given on connections of the application's role."""
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM inventory.saga")
        connection.execute("DELETE FROM inventory.processed_event")
        connection.execute("DELETE FROM inventory.outbox")

    def run(work: Callable[[AsyncConnectionPool], Awaitable[None]], size: int = 4) -> None:
        async def main() -> None:
            async with open_pool(as_role(database, "stockwire_app"), size=size) as pool:
                await work(pool)

        asyncio.run(main())

    return run


def told(database: str) -> list[tuple[str, str]]:
    with psycopg.connect(database) as connection:
        return connection.execute("SELECT type, aggregateid FROM inventory.outbox").fetchall()


async def claim(rows: Sagas, most: int = 100) -> list[Saga]:
    return await rows.claim(most, claimed_by="test")


def test_a_command_begins_one_saga_however_often_it_comes(sagas, database):
    async def scenario(pool):
        rows, command = Sagas(pool), a_command()
        await asyncio.gather(*(rows.accept(command) for _ in range(20)))
        with psycopg.connect(database) as connection:
            connection.execute("DELETE FROM inventory.processed_event")
        await rows.accept(command)
        [listed] = await rows.latest()
        assert (listed.saga.id, listed.saga.command) == (command.saga, command)
        [saga] = await claim(rows)
        failed = apply(saga, Do(Step.RESERVE), Declined("insufficient"), Limits())
        assert await rows.write(failed) is not None
        await rows.accept(command)
        assert await claim(rows) == []
        assert told(database) == [("checkout.failed", str(command.saga))]

    sagas(scenario)


def test_what_was_accepted_is_remembered_without_its_saga(sagas, database):
    async def scenario(pool):
        rows, command = Sagas(pool), a_command()
        await rows.accept(command)
        with psycopg.connect(database) as connection:
            connection.execute("DELETE FROM inventory.saga")
        await rows.accept(command)
        assert await rows.latest() == []

    sagas(scenario)


def test_batches_are_taken_in_whole_once_and_in_any_order(sagas):
    async def scenario(pool):
        rows, commands = Sagas(pool), [a_command() for _ in range(200)]
        batches = [[*commands, *commands[:9]], commands[::-1], commands[100:], commands[:100]]
        answers = await asyncio.gather(*(rows.accept(*batch) for batch in batches * 2))
        assert answers == [[]] * 8
        assert {listed.saga.id for listed in await rows.latest(most=300)} == {
            command.saga for command in commands
        }
        assert await rows.count_open(1_000) == 200
        assert await rows.count_open(7) == 7

    sagas(scenario)


def test_another_command_under_the_same_id_is_not_accepted(sagas):
    async def scenario(pool):
        rows, command, fine = Sagas(pool), a_command(), a_command()
        other = command.model_copy(update={"amount_minor": 1})
        assert await rows.accept(command, other) == [other]
        assert await rows.accept(other, fine, command) == [other]
        found = {listed.saga.command.amount_minor for listed in await rows.latest()}
        assert found == {command.amount_minor, fine.amount_minor}

    sagas(scenario)


def test_a_command_of_whatever_text_is_stored_as_it_came(sagas):
    async def scenario(pool):
        rows, command = Sagas(pool), a_command(sku='{"%(x)s"} \\u00e9 \\\\ ü ☃', ship_to="'\n\t\\")
        await rows.accept(command)
        [saga] = await claim(rows)
        assert saga.command == command

    sagas(scenario)


def test_each_saga_is_claimed_by_one(sagas):
    async def scenario(pool):
        rows = Sagas(pool)
        for _ in range(30):
            await rows.accept(a_command())
        claimed = await asyncio.gather(*(claim(rows, 7) for _ in range(8)))
        ids = [saga.id for each in claimed for saga in each]
        assert len(ids) == len(set(ids)) <= 30
        assert all(len(each) <= 7 for each in claimed)
        ids += [saga.id for saga in await claim(rows)]
        assert len(ids) == len(set(ids)) == 30

    sagas(scenario)


def test_who_lost_the_claim_neither_writes_nor_tells(sagas, database):
    async def scenario(pool):
        rows = Sagas(pool)
        await rows.accept(a_command())
        [first] = await claim(rows)
        assert await claim(rows) == []
        let_time_pass(database)
        [second] = await claim(rows)
        ended = apply(first, Do(Step.RESERVE), Declined("insufficient"), Limits())
        assert await rows.write(ended) is None
        await rows.give_back(first)
        assert await claim(rows) == []
        assert told(database) == []
        written = await rows.write(replace(ended, version=second.version))
        assert written is not None
        assert await rows.write(written) is None
        assert len(told(database)) == 1

    sagas(scenario)


def test_a_claim_is_over_in_its_time_and_a_write_lengthens_it(sagas):
    async def scenario(pool):
        rows = Sagas(pool)
        await rows.accept(a_command())
        [saga] = await rows.claim(1, claimed_by="one", lease_seconds=0)
        [saga] = await rows.claim(1, claimed_by="two", lease_seconds=0)
        assert await rows.write(saga, lease_seconds=60) is not None
        assert await claim(rows) == []
        [listed] = await rows.latest()
        assert listed.claimed_by == "two"

    sagas(scenario)


def test_what_waits_is_not_due_unless_a_person_says_so(sagas):
    async def scenario(pool):
        rows = Sagas(pool)
        await rows.accept(a_command())
        [saga] = await claim(rows)
        assert await rows.write(saga, pause_seconds=3600) is not None
        assert await claim(rows) == []
        assert await rows.retry(saga.id)
        [saga] = await claim(rows)
        failed = apply(saga, Do(Step.RESERVE), Declined("insufficient"), Limits())
        assert await rows.write(failed) is not None
        assert not await rows.retry(saga.id)
        assert not await rows.retry(uuid4())
        assert [listed.saga.id for listed in await rows.latest(Status.FAILED)] == [saga.id]
        assert await rows.latest(Status.RUNNING) == []
        found = await rows.find(saga.id)
        assert found is not None
        assert found.ended_at is not None
        assert await rows.find(uuid4()) is None

    sagas(scenario)


def test_given_back_it_is_claimed_at_once(sagas):
    async def scenario(pool):
        rows = Sagas(pool)
        await rows.accept(a_command())
        [saga] = await claim(rows)
        await rows.give_back(saga)
        assert [again.id for again in await claim(rows)] == [saga.id]

    sagas(scenario)


class FromMemory:
    """Payment and shipping that always say yes, at once."""

    async def charge(self, key, charge) -> Done | No:
        return Done(key)

    async def refund(self, key) -> Done | No:
        return Done(key)

    async def ship(self, key, parcel) -> Done | No:
        return Done(key)

    async def cancel(self, key) -> Done | No:
        return Done(key)


def test_the_real_reservations_answer_as_the_steps_expect(sagas, database):
    put_up(database, "REAL", 3)

    async def scenario(pool):
        rows, service = Sagas(pool), FromMemory()
        steps, limits = Steps(Reservations(pool), service, service), Limits()
        await rows.accept(a_command(sku="REAL", quantity=2))
        [saga] = await claim(rows)
        # Nothing is held yet; and what was let go stays so.
        assert await steps.perform(saga, Undo(Step.RESERVE)) == Worked()
        await rows.accept(a_command(sku="REAL", quantity=2))
        [saga] = await claim(rows)
        for step in Step:
            first = await steps.perform(saga, Do(step))
            # A process that died after the effect does it again.
            assert await steps.perform(saga, Do(step)) == first
            assert isinstance(first, Worked)
            saga = apply(saga, Do(step), first, limits)
        assert saga.status is Status.COMPLETED
        await rows.accept(a_command(sku="REAL", quantity=2))
        [saga] = await claim(rows)
        short = {"short": [["REAL", 2, 1]]}
        assert await steps.perform(saga, Do(Step.RESERVE)) == Declined("insufficient", short)

    sagas(scenario)
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT on_hand, reserved FROM inventory.stock WHERE sku = 'REAL'")
        assert row.fetchone() == (1, 0)


def test_several_orchestrators_share_them_while_the_services_fail(sagas, database):
    """Each fault in turn, on every path; what is sold is what was paid for and sent."""
    put_up(database, "SHARED", 25)
    commands = [a_command(sku="SHARED") for _ in range(30)]
    faults = [fault for fault in Fault if fault not in (Fault.HANG, Fault.LOSE, Fault.LATE)]

    with services_beside() as services:
        for path in ("payments", "refund", "shipments", "cancellation"):
            for fault in (*faults, Fault.LATE):
                services.go_wrong(path, fault)

        async def scenario(pool):
            rows = Sagas(pool)
            await asyncio.gather(*(rows.accept(command) for command in commands))
            async with open_client(services.url, timeout_seconds=2.0) as http:
                steps = Steps(Reservations(pool), HttpPayment(http), HttpShipping(http), tries=1)
                limits = Limits(attempts=2, first_pause_seconds=0.01, longest_pause_seconds=0.05)
                three = [
                    Orchestrator(rows, steps, name=name, limits=limits, at_once=5)
                    for name in ("one", "two", "three")
                ]
                running = [asyncio.create_task(each.run()) for each in three]
                async with asyncio.timeout(120):
                    while not all(listed.saga.ended for listed in await rows.latest()):
                        await asyncio.wait(running, timeout=0.05)
                for each in three:
                    each.stop()
                await asyncio.gather(*running)

        sagas(scenario, size=8)
        services.arrive_late()
        endings = check_books(database, services, commands, 25)
    assert endings["completed"] <= 25
    assert endings["failed"] >= 5
