"""Where a worker begins, and what it restores, when Redis knows less than Kafka does."""

import asyncio

import pytest

from inventory.errors import Outage, ProjectionLost
from inventory.stock import StockLevel
from inventory.topics import CHANNEL_SKU, STOCK
from projections.ports import SkuChanges
from stream.recovery import Recovery
from stream.retry import OUTAGES, Outages, until_it_works
from tests.fakes import FakeCheckpoints, FakeProjector
from tests.unit.test_inbox import run

TOPICS = (STOCK, CHANNEL_SKU)


class Marks:
    def __init__(self):
        self.forgotten = []
        self.looks = 0

    async def forget(self, partitions):
        self.forgotten.append(set(partitions))

    def look_again(self):
        self.looks += 1


class Worker:
    """One process after the other on one Redis."""

    def __init__(self):
        self.projector = FakeProjector()
        self.kept = FakeCheckpoints(self.projector)
        self.start()

    def start(self):
        self.epoch = 0
        self.said = []
        self.marks = Marks()
        self.recovery = Recovery(
            self.kept, self.projector, self.marks, TOPICS, lambda: self.epoch, self.said.append
        )

    def begin(self, committed, ends=1000):
        async def end_of(partitions):
            return {place: ends if committed[place] else 0 for place in partitions}

        return run(self.recovery.begin(committed, end_of))

    def load(self, place, offset):
        async def load():
            await self.projector.load({}, {place: offset})
            await self.recovery.loaded({place: offset})

        run(load())


@pytest.fixture
def worker():
    return Worker()


def at(partition, stock, overrides=None):
    return {(STOCK, partition): stock, (CHANNEL_SKU, partition): overrides}


def test_an_empty_group_begins_in_the_ordinary_way(worker):
    assert worker.begin({**at(0, None), **at(1, None)}) == {}
    assert worker.recovery.restoring == set()
    assert worker.recovery.whole() == {0, 1}
    assert worker.said == [None]


def test_who_knows_all_begins_where_it_has_committed(worker):
    worker.projector.checkpoint = at(0, 70, 7)
    assert worker.begin(at(0, 50, 7)) == {}
    assert worker.recovery.whole() == {0}
    assert worker.projector.known == at(0, 70, 7)


def test_a_checkpoint_that_is_too_low_is_replayed_from_in_the_ordinary_way(worker):
    worker.projector.checkpoint = {**at(0, 30, 7), **at(1, 60, 8)}
    assert worker.begin({**at(0, 50, 7), **at(1, 60, 9)}) == {(STOCK, 0): 30, (CHANNEL_SKU, 1): 8}
    assert worker.recovery.restoring == set()
    assert worker.recovery.whole() == {0, 1}
    assert worker.said[-1] == "replaying what Redis has lost of partition 0, 1"
    worker.recovery.written({(STOCK, 0): 49, (CHANNEL_SKU, 1): 9})
    assert worker.said[-1] == "replaying what Redis has lost of partition 0"
    worker.recovery.written({(STOCK, 0): 50})
    assert worker.said[-1] is None


def test_a_replay_ends_where_the_topic_does(worker):
    worker.projector.checkpoint = at(0, 30, 7)
    worker.begin(at(0, 50, 7), ends=40)
    worker.recovery.written({(STOCK, 0): 40})
    assert worker.said[-1] is None, "the topic was cut off: nothing more will come"


def test_what_is_restored_and_what_is_replayed_are_both_said(worker):
    worker.projector.checkpoint = at(1, 60, 8)
    worker.begin({**at(0, 50), **at(1, 70, 8)})
    assert worker.said[-1] == (
        "restoring partition 0: 0 of 50 records; replaying what Redis has lost of partition 1"
    )
    worker.load((STOCK, 0), 50)
    worker.recovery.told({0})
    assert worker.said[-1] == "replaying what Redis has lost of partition 1"


@pytest.mark.parametrize("kept", [{}, {(CHANNEL_SKU, 0): 20}])
def test_without_a_checkpoint_all_of_a_partition_number_is_restored(worker, kept):
    worker.projector.checkpoint = {**kept, (STOCK, 1): 60}
    assert worker.begin({**at(0, 50, 7), **at(1, 60)}) == at(0, 0, 0)
    assert set(worker.recovery.restoring) == {0}
    assert worker.recovery.whole() == {1}
    assert worker.said[-1] == "restoring partition 0: 0 of 57 records"
    worker.load((STOCK, 0), 49)
    worker.load((CHANNEL_SKU, 0), 9)
    assert worker.recovery.whole() == {1}
    assert worker.said[-1] == "restoring partition 0: 56 of 57 records"
    assert worker.marks.forgotten == []
    worker.load((STOCK, 0), 55)
    assert worker.recovery.whole() == {0, 1}
    assert worker.marks.forgotten == [{0}]
    assert worker.projector.restoring == set()
    assert worker.said[-1] == "telling every SKU of partition 0 anew"
    worker.recovery.told({1})
    assert worker.said[-1] is not None
    worker.recovery.told({0, 1})
    assert worker.said[-1] is None


def test_who_takes_over_before_all_is_told_says_so(worker):
    worker.begin(at(0, 50))
    worker.load((STOCK, 0), 50)
    worker.start()
    worker.begin(at(0, 50))
    assert worker.recovery.whole() == {0}
    assert worker.said[-1] == "telling every SKU of partition 0 anew"
    worker.recovery.told({0})
    assert worker.said[-1] is None


def test_a_crash_while_restoring_goes_on_with_it(worker):
    worker.begin(at(0, 50, 7))
    worker.load((STOCK, 0), 20)
    worker.start()
    assert worker.begin(at(0, 50, 7)) == {(STOCK, 0): 20, (CHANNEL_SKU, 0): 0}
    assert set(worker.recovery.restoring) == {0}, "its state has holes: nothing is projected"
    worker.load((CHANNEL_SKU, 0), 7)
    worker.load((STOCK, 0), 50)
    assert worker.recovery.whole() == {0}


def test_a_crash_at_the_end_of_restoring_has_its_end_done_again(worker, monkeypatch):
    worker.begin(at(0, 50))

    async def crash(partitions):
        raise RuntimeError("crashed")

    monkeypatch.setattr(worker.kept, "restored", crash)
    with pytest.raises(RuntimeError):
        worker.load((STOCK, 0), 50)
    monkeypatch.undo()
    worker.start()
    assert worker.begin(at(0, 50)) == {}
    assert worker.marks.forgotten == [{0}]
    assert worker.recovery.whole() == {0}


def test_a_group_that_was_forgotten_meanwhile_is_restored_to_the_end(worker):
    worker.begin(at(0, 50))
    worker.load((STOCK, 0), 20)
    worker.start()

    async def begin():
        async def ends(partitions):
            return {place: 60 if place[0] == STOCK else 0 for place in partitions}

        return await worker.recovery.begin(at(0, None), ends)

    assert run(begin()) == {}
    worker.load((STOCK, 0), 59)
    assert set(worker.recovery.restoring) == {0}
    worker.load((STOCK, 0), 60)
    assert worker.recovery.whole() == {0}


def test_loss_in_the_middle_of_restoring_begins_anew(worker):
    worker.begin(at(0, 50))
    worker.load((STOCK, 0), 20)
    worker.projector.checkpoint.clear()
    worker.projector.restoring.clear()
    with pytest.raises(ProjectionLost):
        worker.load((STOCK, 0), 30)
    worker.start()
    assert worker.begin(at(0, 50)) == {(STOCK, 0): 0}


def test_what_is_not_there_any_longer_is_not_waited_for(worker):
    """The topic was made anew: the group has committed more than it holds."""
    worker.begin(at(0, 50), ends=3)
    worker.load((STOCK, 0), 3)
    assert worker.recovery.whole() == {0}


def test_nothing_is_whole_between_a_revocation_and_the_next_beginning(worker):
    worker.projector.checkpoint = at(0, 50)
    worker.begin(at(0, 50))
    worker.epoch += 1
    assert worker.recovery.whole() == set()


def test_loss_is_noticed_when_nobody_sells(worker, monkeypatch):
    monkeypatch.setattr("stream.recovery._COMPARE_SECONDS", 0.001)
    worker.projector.checkpoint = at(0, 50, 0)
    worker.begin(at(0, 50))

    async def scenario():
        watching = asyncio.create_task(worker.recovery.watch())
        while worker.recovery._run_id is None:
            await asyncio.sleep(0)
        worker.kept.run = "run-2"
        while not worker.marks.looks:
            await asyncio.sleep(0)
        worker.projector.checkpoint[STOCK, 0] = 49
        await watching

    with pytest.raises(ProjectionLost):
        run(scenario())


def test_rows_loaded_are_projected_whole(worker):
    """What the walk makes of them, whatever part came first."""
    worker.begin(at(0, 50))
    level = StockLevel(4, 0, 0, 0, None, 2, 1)

    async def load():
        await worker.projector.load({"A": SkuChanges({"ams": level}, partition=0)}, {(STOCK, 0): 9})

    run(load())
    assert worker.projector.states["A"].published is None


def test_who_waits_for_an_outage_says_which():
    outages, said = Outages(), []
    outages.report = said.append

    async def work():
        if not said:
            raise Outage("Redis is away.")
        assert outages.sentence() == "Redis is away."
        return 1

    assert run(until_it_works(work, outages)) == 1
    assert said == ["Redis is away.", None]
    assert outages.sentence() is None
    assert OUTAGES.sentence() is None
