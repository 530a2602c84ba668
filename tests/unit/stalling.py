"""A process that stalls, with a watchdog.

python -m tests.unit.stalling stuck|blocked|endless|healthy
"""

import asyncio
import sys
import time

from health import Health
from health.logs import configure_logging
from stream.watchdog import Watchdog, pulse

LIMIT = 1.0
PARTITION = ("t", 0)


class Lagging:
    """Offsets of a partition that holds ten records."""

    def read(self, held, confirmed):
        return {p: confirmed.get(p, 0) for p in held}, dict.fromkeys(held, 10)

    def close(self):
        pass


async def stuck_agent() -> None:
    await asyncio.Event().wait()


def block() -> None:
    while True:
        time.sleep(0.01)


async def main(how: str) -> None:
    health = Health("worker")
    health.started()
    confirmed = {PARTITION: 4 if how == "stuck" else 10}
    watchdog = Watchdog(
        health, lambda: {PARTITION}, lambda: confirmed, lambda: False, Lagging(), LIMIT
    )
    with watchdog.watching():
        agent = asyncio.create_task(stuck_agent(), name="the agent")
        beating = asyncio.create_task(pulse(health, lambda: {PARTITION}))
        if how == "blocked":
            await asyncio.sleep(0)
            block()
        if how == "healthy":
            watchdog.expect_end()
            watchdog.over()
            await asyncio.sleep(3 * LIMIT)
            print("still here", health.ready())
            agent.cancel()
            beating.cancel()
        if how != "endless":
            await asyncio.wait({agent})
    watchdog.expect_end()
    await asyncio.wait({agent})
    watchdog.over()


if __name__ == "__main__":
    configure_logging()
    asyncio.run(main(sys.argv[1]))
