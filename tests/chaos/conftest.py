"""One stack for all faults of a session."""

import gc
from collections.abc import Iterator

import pytest

from bench.machine import describe
from tests.chaos.bounded import bounded
from tests.chaos.results import Results
from tests.chaos.world import Watched, keeps_running, running_world

_LONGEST_SECONDS = 1_200.0
#: Collections of young objects before one of all.
_NEVER = 1_000_000_000


@pytest.fixture(autouse=True)
def _bounded(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test hangs; a module that takes long says so in `LONGEST_SECONDS`."""
    with bounded(getattr(request.module, "LONGEST_SECONDS", _LONGEST_SECONDS)):
        yield


@pytest.fixture(scope="session")
def world() -> Iterator[Watched]:
    """The stack behind its proxy, watched.

    What the witnesses keep grows to millions of objects: to go through all of them in search of
    cycles would stop this process, and the probe's commits with it, for longer than a place may be
    stale. Young cycles are found all the same: some of them hold sockets.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(*before[:2], _NEVER)
    try:
        with running_world() as world:
            yield world
    finally:
        gc.set_threshold(*before)


@pytest.fixture(scope="session")
def results(world: Watched) -> Results:
    """Where the findings go."""
    return Results(describe(world.direct), go_on=keeps_running())
