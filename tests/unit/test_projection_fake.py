"""The projector in memory keeps the contract, so that tests of the stream may lean on it."""

import asyncio

import pytest

from inventory.projection import SkuState
from tests.fakes import FakeProjector
from tests.projector_contract import Driver, ProjectorContract


class FakeDriver(Driver):
    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.projector = FakeProjector()

    def send(self, changes, policies, checkpoint):
        return self.runner.run(self.projector.write(changes, policies, checkpoint))

    def apply(self, changes):
        self.projector.apply(changes)

    def alerted(self, versions):
        self.runner.run(self.projector.alerted(versions))

    def state(self, sku):
        return self.projector.states.get(sku, SkuState(sku, 0, {}, None))

    def checkpoint(self):
        return self.projector.checkpoint


@pytest.fixture
def driver():
    with asyncio.Runner() as runner:
        yield FakeDriver(runner)


class TestFakeProjector(ProjectorContract):
    pass
