"""One stack for all faults of a session."""

from collections.abc import Iterator

import pytest

from bench.machine import describe
from tests.chaos.bounded import bounded
from tests.chaos.results import Results
from tests.chaos.world import Watched, keeps_running, running_world

_LONGEST_SECONDS = 1_200.0


@pytest.fixture(autouse=True)
def _bounded(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test hangs; a module that takes long says so in `LONGEST_SECONDS`."""
    with bounded(getattr(request.module, "LONGEST_SECONDS", _LONGEST_SECONDS)):
        yield


@pytest.fixture(scope="session")
def world() -> Iterator[Watched]:
    """The stack behind its proxy, watched."""
    with running_world() as world:
        yield world


@pytest.fixture(scope="session")
def results(world: Watched) -> Results:
    """Where the findings go."""
    return Results(describe(world.direct), go_on=keeps_running())
