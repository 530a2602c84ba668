"""The pipeline: applied in order, confirmed in order, and nothing confirmed after a fault."""

import asyncio

import pytest

from stream.inbox import Inbox
from stream.pipeline import run_agent
from tests.fakes import Idle
from tests.unit.test_inbox import records, run


async def running(inbox, handle):
    task = asyncio.create_task(run_agent(inbox, handle, Idle()))
    await asyncio.sleep(0)
    return task


def test_the_next_batch_is_applied_while_one_waits_for_acknowledgement():
    async def scenario():
        inbox = Inbox(limit=100)
        acknowledged = [asyncio.Event(), asyncio.Event()]
        applied = []

        async def handle(batch):
            applied.append(batch.records[0].offset)
            return acknowledged[len(applied) - 1].wait()

        task = await running(inbox, handle)
        await inbox.put(records(1), inbox.epoch)
        while applied != [1]:
            await asyncio.sleep(0)
        await inbox.put(records(2), inbox.epoch)
        while applied != [1, 2]:
            await asyncio.sleep(0)
        acknowledged[1].set()
        assert inbox.confirmed() == {}, "the second may not be confirmed before the first"
        acknowledged[0].set()
        while inbox.confirmed() != {("t", 0): 3}:
            await asyncio.sleep(0)
        task.cancel()

    run(scenario())


@pytest.mark.parametrize("where", ["apply", "acknowledge"])
def test_a_fault_ends_the_pipeline_before_anything_is_confirmed(where):
    async def scenario():
        inbox = Inbox(limit=100)

        async def fail():
            raise RuntimeError(where)

        async def handle(batch):
            if where == "apply":
                await fail()
            return fail()

        task = await running(inbox, handle)
        await inbox.put(records(1), inbox.epoch)
        with pytest.raises(RuntimeError, match=where):
            await task
        assert inbox.confirmed() == {}

    run(scenario())
