"""kill -9 of intake and orchestrator before and after every call and every write of a saga."""

import multiprocessing
import signal
from collections.abc import Sequence
from itertools import count

import pytest

from reservations.saga.command import CheckoutRequested
from simulate.services import DECLINED_ADDRESS, DECLINED_METHOD, UNANSWERED_METHOD
from tests import saga_process
from tests.integration.saga_books import check_books, let_time_pass, put_up, services_beside
from tests.polling import DEADLINE
from tests.saga_process import FAR_AWAY
from tests.saga_world import a_command

pytestmark = pytest.mark.integration

#: A saga that needs more is none of these.
_MOST_POINTS = 60


#: Processes from a server that has imported all of it: there are many of them.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.saga_process"])


def check_out(database: str, url: str, commands: Sequence[CheckoutRequested], point: int) -> int:
    """Take commands in, and carry on what is due until the last of them is at the point.

    Returns:
        The exit code: of a kill, or 0 when there was no such point.
    """
    process = PROCESSES.Process(target=saga_process.run, args=(database, url, commands, point))
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
        ("sold", {}, "completed", 19),
        ("too-many", {"quantity": 20_000}, "failed", 7),
        ("declined", {"method": DECLINED_METHOD}, "failed", 15),
        ("unanswered", {"method": UNANSWERED_METHOD}, "failed", 23),
        ("nowhere", {"ship_to": DECLINED_ADDRESS}, "failed", 23),
        ("too-late", {"ship_to": FAR_AWAY}, "failed", 31),
    ],
)
def test_killed_anywhere_it_ends_once_and_all_agrees(database, name, wanted, ending, points):
    sku, commands = f"KILL-{name}", []
    put_up(database, sku)
    with services_beside() as services:
        for point in count():
            # Kafka brings the command before again: nobody has said that it was taken in. And this
            # process meets what the one before has left, beside a saga of its own.
            commands.append(a_command(sku=sku, **wanted))
            code = check_out(database, services.url, commands[-2:], point)
            let_time_pass(database)
            if code == 0:
                break
            assert point < _MOST_POINTS
        for _ in range(_MOST_POINTS):
            check_out(database, services.url, commands, -1)
            if not let_time_pass(database):
                break
        assert check_books(database, services, commands) == {ending: len(commands)}
    assert len(commands) >= points
