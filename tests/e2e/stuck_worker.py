"""A ledger worker that stalls as Faust is known to: in silence, with its partitions held.

python -m tests.e2e.stuck_worker agent|fetcher

The agent never finishes its first batch, or the fetcher never takes anything.
"""

import asyncio
import sys
from collections.abc import Awaitable

from health.logs import configure_logging
from inventory.settings import load_settings
from stream.delivery import BatchConsumer
from stream.inbox import Batch
from stream.parts import Parts, Work
from stream.worker import ledger_work, run_worker


class StuckAgent:
    name = "stuck"

    async def __call__(self, batch: Batch) -> Awaitable[None]:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


async def stuck_work(parts: Parts) -> Work:
    return (await ledger_work(parts))._replace(agent=StuckAgent())


async def never_fetch(_consumer: BatchConsumer, _fetcher: object) -> None:
    await asyncio.Event().wait()


if __name__ == "__main__":
    configure_logging()
    where = sys.argv[1]
    if where == "fetcher":
        BatchConsumer._drain_messages = never_fetch  # type: ignore[method-assign,assignment]
    work = stuck_work if where == "agent" else ledger_work
    asyncio.run(run_worker("ledger", load_settings(), work))
