"""kill -9 of the orchestrator before and after every call and every write of a saga."""

import asyncio
import multiprocessing
import signal
from itertools import count

import pytest

from reservations.pool import open_pool
from reservations.saga.command import CheckoutRequested
from reservations.saga.store import Sagas
from simulate.services import DECLINED_ADDRESS, DECLINED_METHOD, UNANSWERED_METHOD
from tests import saga_process
from tests.integration.saga_books import check_books, let_time_pass, put_up, services_beside
from tests.polling import DEADLINE
from tests.saga_process import FAR_AWAY
from tests.saga_world import a_command

pytestmark = pytest.mark.integration

#: A saga that needs more is none of these.
_MOST_POINTS = 60


def accept(database: str, command: CheckoutRequested) -> None:
    async def main() -> None:
        async with open_pool(database, size=1) as pool:
            await Sagas(pool).accept(command)

    asyncio.run(main())


#: Processes from a server that has imported all of it: there are many of them.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.saga_process"])


def orchestrate(database: str, url: str, victim: str, point: int) -> int:
    """Run the orchestrator until nothing is due, or until it kills itself; its exit code."""
    process = PROCESSES.Process(target=saga_process.run, args=(database, url, victim, point))
    process.start()
    process.join(DEADLINE)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    assert code in (0, -signal.SIGKILL)
    process.close()
    return code


@pytest.mark.parametrize(
    ("name", "wanted", "ending", "points"),
    [
        ("sold", {}, "completed", 17),
        ("too-many", {"quantity": 20_000}, "failed", 5),
        ("declined", {"method": DECLINED_METHOD}, "failed", 13),
        ("unanswered", {"method": UNANSWERED_METHOD}, "failed", 21),
        ("nowhere", {"ship_to": DECLINED_ADDRESS}, "failed", 21),
        ("too-late", {"ship_to": FAR_AWAY}, "failed", 29),
    ],
)
def test_killed_anywhere_it_ends_once_and_all_agrees(database, name, wanted, ending, points):
    sku, commands = f"KILL-{name}", []
    put_up(database, sku)
    with services_beside() as services:
        for point in count():
            command = a_command(sku=sku, **wanted)
            commands.append(command)
            accept(database, command)
            code = orchestrate(database, services.url, str(command.saga), point)
            # The next one meets what this one has left, beside a saga of its own.
            let_time_pass(database)
            if code == 0:
                break
            assert point < _MOST_POINTS
        for _ in range(_MOST_POINTS):
            orchestrate(database, services.url, "nobody", -1)
            if not let_time_pass(database):
                break
        assert check_books(database, services, commands) == {ending: len(commands)}
    assert len(commands) >= points
