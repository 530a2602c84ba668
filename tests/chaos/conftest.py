"""One stack for all faults of a session."""

from collections.abc import Iterator

import pytest

from bench.machine import describe
from tests.chaos.results import Results
from tests.chaos.world import Watched, keeps_running, running_world


@pytest.fixture(scope="session")
def world() -> Iterator[Watched]:
    """The stack behind its proxy, watched."""
    with running_world() as world:
        yield world


@pytest.fixture(scope="session")
def results(world: Watched) -> Results:
    """Where the findings go."""
    return Results(describe(world.direct), go_on=keeps_running())
