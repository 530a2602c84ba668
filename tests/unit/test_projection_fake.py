"""The projector in memory keeps the contract, so that tests of the stream may lean on it."""

import asyncio

import pytest

from inventory.projection import SkuState
from tests.fakes import FakeCheckpoints, FakeProjector
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

    def begin(self, known, restoring=()):
        self.projector.restoring.update(restoring)
        self.projector.begin(known, restoring)

    def check(self):
        self.runner.run(self.projector.check())

    def load(self, changes, checkpoint):
        self.runner.run(self.projector.load(changes, checkpoint))

    def checkpoints(self):
        return self.runner.run(FakeCheckpoints(self.projector).begin())

    def lose(self, kept):
        self.projector.checkpoint = dict(kept)
        self.projector.restoring = set()


@pytest.fixture
def driver():
    with asyncio.Runner() as runner:
        yield FakeDriver(runner)


class TestFakeProjector(ProjectorContract):
    pass
