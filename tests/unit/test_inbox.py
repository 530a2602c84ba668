"""The inbox: bounded, in order, and never confirming what a rebalance took away."""

import asyncio
from collections import namedtuple

import pytest

from stream.inbox import Inbox

Fetched = namedtuple("Fetched", "topic partition offset key value headers", defaults=(b"", b"", ()))


def records(*offsets: int, partition: int = 0) -> list[Fetched]:
    return [Fetched("t", partition, offset) for offset in offsets]


def run(coroutine):
    async def bounded():
        async with asyncio.timeout(10):
            return await coroutine

    return asyncio.run(bounded())


def test_take_returns_what_is_there_in_order():
    async def scenario():
        inbox = Inbox(limit=100)
        await inbox.put(records(1, 2, 3), inbox.epoch)
        batch = await inbox.take(2)
        assert [r.offset for r in batch.records] == [1, 2]
        assert batch.positions == {("t", 0): 3}
        assert [r.offset for r in (await inbox.take(2)).records] == [3]

    run(scenario())


def test_take_waits_for_the_first_record():
    async def scenario():
        inbox = Inbox(limit=100)
        taking = asyncio.create_task(inbox.take(10))
        await asyncio.sleep(0)
        assert not taking.done()
        await inbox.put(records(7), inbox.epoch)
        assert [r.offset for r in (await taking).records] == [7]

    run(scenario())


def test_put_waits_while_the_inbox_is_full():
    async def scenario():
        inbox = Inbox(limit=2)
        assert await inbox.put(records(1, 2), inbox.epoch)
        putting = asyncio.create_task(inbox.put(records(3), inbox.epoch))
        await asyncio.sleep(0)
        assert not putting.done()
        await inbox.take(1)
        assert await putting

    run(scenario())


def test_only_confirmed_batches_may_be_committed():
    async def scenario():
        inbox = Inbox(limit=100)
        await inbox.put(records(1, 2, 3), inbox.epoch)
        first = await inbox.take(2)
        assert inbox.confirmed() == {}
        await inbox.confirm(first)
        assert inbox.confirmed() == {("t", 0): 3}

    run(scenario())


def test_a_rebalance_drops_what_was_not_taken_and_refuses_late_fetches():
    async def scenario():
        inbox = Inbox(limit=1)
        epoch = inbox.epoch
        await inbox.put(records(1), epoch)
        waiting = asyncio.create_task(inbox.put(records(2), epoch))
        await asyncio.sleep(0)
        assert await inbox.drain(patience=5)
        assert not await waiting, "a full inbox must let go of the fetcher, or it never rejoins"
        assert not await inbox.put(records(3), epoch)
        assert await inbox.put(records(4), inbox.epoch)
        assert [r.offset for r in (await inbox.take(9)).records] == [4]

    run(scenario())


def test_drain_waits_for_the_batch_in_hand():
    async def scenario():
        inbox = Inbox(limit=10)
        await inbox.put(records(1), inbox.epoch)
        batch = await inbox.take(1)
        draining = asyncio.create_task(inbox.drain(patience=5))
        await asyncio.sleep(0)
        assert not draining.done()
        await inbox.confirm(batch)
        assert await draining
        assert inbox.confirmed() == {("t", 0): 2}

    run(scenario())


def test_a_batch_that_outlives_the_rebalance_is_not_committed():
    async def scenario():
        inbox = Inbox(limit=10)
        await inbox.put(records(1), inbox.epoch)
        batch = await inbox.take(1)
        assert not await inbox.drain(patience=0.01)
        await inbox.release()
        await inbox.confirm(batch)
        assert inbox.confirmed() == {}

    run(scenario())


@pytest.mark.parametrize("partitions", [1, 3])
def test_positions_are_per_partition_and_skip_compaction_gaps(partitions):
    async def scenario():
        inbox = Inbox(limit=100)
        for partition in range(partitions):
            await inbox.put(records(5, 9, 40, partition=partition), inbox.epoch)
        await inbox.confirm(await inbox.take(100))
        assert inbox.confirmed() == {("t", p): 41 for p in range(partitions)}

    run(scenario())


def test_after_a_fault_nobody_waits_for_the_batch_in_hand():
    async def scenario():
        inbox = Inbox(limit=10)
        await inbox.put(records(1, 2), inbox.epoch)
        await inbox.confirm(await inbox.take(1))
        await inbox.take(1)
        await inbox.abandon()
        assert await inbox.drain(patience=5)
        assert inbox.confirmed() == {("t", 0): 2}, "what was confirmed may still be committed"

    run(scenario())
