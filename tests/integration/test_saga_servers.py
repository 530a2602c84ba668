"""kill -9 of a server while sagas stand before and after every call and every write at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import pytest

from inventory.errors import Outage
from reservations.pool import open_pool
from reservations.saga.http import HttpPayment, open_client
from reservations.saga.machine import Limits, Saga
from reservations.saga.orchestrator import Orchestrator
from reservations.saga.steps import Steps
from reservations.saga.store import Sagas
from reservations.service import Reservations
from simulate.services import UNANSWERED_METHOD
from tests.integration.saga_books import check_books, let_time_pass, put_up, services_beside
from tests.polling import DEADLINE
from tests.saga_process import FAR_AWAY, SlowShipping
from tests.saga_world import WatchedPayment, WatchedRows, WatchedShipping, WatchedStock, a_command

pytestmark = pytest.mark.integration

#: No saga has more points.
SAGAS = 40

LIMITS = Limits(attempts=2, first_pause_seconds=0.001, longest_pause_seconds=0.001)


class Gates:
    """The first saga stops at its first point, the second at its second, until all may go on."""

    def __init__(self, sagas: list[UUID]) -> None:
        self._points = {str(saga): point for point, saga in enumerate(sagas)}
        self._passed: Counter[str] = Counter()
        self.standing: set[str] = set()
        self.open = asyncio.Event()

    async def __call__(self, key: str) -> None:
        saga = key[:36]
        if self._passed[saga] == self._points[saga]:
            self.standing.add(saga)
            await self.open.wait()
        self._passed[saga] += 1


class Rows(WatchedRows):
    """A claim is everybody's, so nobody stops at it: what comes next is the first step."""

    async def claim(self, most: int, *, claimed_by: str, lease_seconds: float) -> list[Saga]:
        return await self._rows.claim(most, claimed_by=claimed_by, lease_seconds=lease_seconds)


@pytest.mark.parametrize("server", ["postgres", "redis"])
@pytest.mark.parametrize(
    ("name", "wanted", "ending", "points"),
    [
        ("sold", {}, "completed", 16),
        ("unanswered", {"method": UNANSWERED_METHOD}, "failed", 18),
        ("too-late", {"ship_to": FAR_AWAY}, "failed", 28),
    ],
)
def test_a_server_killed_under_all_of_them(stack, database, server, name, wanted, ending, points):
    sku = f"{server}-{name}"
    put_up(database, sku)
    commands = [a_command(sku=sku, **wanted) for _ in range(SAGAS)]
    gates = Gates([command.saga for command in commands])

    async def all_stand_or_have_ended(rows: Sagas) -> None:
        while True:
            # On a busy machine all connections may be taken for a while.
            with suppress(Outage):
                found = await rows.latest()
                if {str(each.saga.id) for each in found if not each.saga.ended} <= gates.standing:
                    return
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def orchestrator(url: str) -> AsyncIterator[tuple[Orchestrator, Sagas]]:
        async with open_pool(database, size=4, wait_seconds=5.0) as pool, open_client(url) as http:
            steps = Steps(
                WatchedStock(Reservations(pool), gates),
                WatchedPayment(HttpPayment(http), gates),
                WatchedShipping(SlowShipping(http, pool), gates),
                # While it stands at its point, it is not to be given up.
                timeout_seconds=DEADLINE,
                tries=1,
            )
            rows = Rows(Sagas(pool), gates)
            yield (
                Orchestrator(
                    rows,
                    steps,
                    name="test",
                    limits=LIMITS,
                    at_once=SAGAS,
                    lease_seconds=2 * DEADLINE,
                    idle_seconds=0.02,
                ),
                Sagas(pool),
            )

    async def killed_under(url: str) -> None:
        async with orchestrator(url) as (first, rows):
            await rows.accept(*commands)
            running = asyncio.create_task(first.run())
            async with asyncio.timeout(DEADLINE):
                await all_stand_or_have_ended(rows)
            assert len(gates.standing) >= points
            stack.kill(server)
            gates.open.set()
            # It finishes the steps in hand, as far as that can be done now.
            first.stop()
            await running

    async def carried_on(url: str) -> None:
        async with orchestrator(url) as (second, _):
            while await asyncio.to_thread(let_time_pass, database):
                await second.run_until_idle()

    with services_beside() as services:
        asyncio.run(killed_under(services.url))
        # Until it answers; supervisord has begun it again.
        stack.start_part(server)
        asyncio.run(carried_on(services.url))
        assert check_books(database, services, commands) == {ending: SAGAS}
