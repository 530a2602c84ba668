"""Intake and orchestrator as a process that kills itself at a point of a saga.

Points are counted in the saga's calls and writes, before and after each; -1 is never reached.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from uuid import UUID

import httpx
from psycopg_pool import AsyncConnectionPool

from reservations.pool import open_pool, outages
from reservations.saga.command import CheckoutRequested
from reservations.saga.http import HttpPayment, HttpShipping
from reservations.saga.machine import Limits
from reservations.saga.orchestrator import Orchestrator
from reservations.saga.ports import Done, No, Parcel
from reservations.saga.steps import Steps
from reservations.saga.store import Sagas
from reservations.service import Reservations
from tests.saga_world import WatchedPayment, WatchedRows, WatchedShipping, WatchedStock

#: Parcels to there take longer than any hold.
FAR_AWAY = "far away"

#: Pauses are over when the next process looks; what fails, fails soon.
LIMITS = Limits(attempts=2, first_pause_seconds=0.001, longest_pause_seconds=0.001)

_HOLD_IS_OVER = """
    UPDATE inventory.reservation
    SET held_until = clock_timestamp() - interval '1 second', created_at = created_at
    WHERE id = %s
"""


class SlowShipping(HttpShipping):
    """Where the parcel goes far away, the hold is over when it is sent."""

    def __init__(self, http, pool: AsyncConnectionPool) -> None:
        super().__init__(http)
        self._pool = pool

    async def ship(self, key: str, parcel: Parcel) -> Done | No:
        if parcel.ship_to == FAR_AWAY:
            with outages():
                async with self._pool.connection() as connection:
                    await connection.execute(_HOLD_IS_OVER, [key.removesuffix("-ship")])
        return await super().ship(key, parcel)


async def ended(pool: AsyncConnectionPool, saga: UUID) -> bool:
    listed = await Sagas(pool).find(saga)
    return listed is not None and listed.saga.ended


async def main(conninfo: str, url: str, commands: Sequence[CheckoutRequested], point: int) -> None:
    reached, victim = 0, str(commands[-1].saga)

    async def watch(key: str) -> None:
        nonlocal reached
        if key.startswith(victim):
            if reached == point:
                os.kill(os.getpid(), signal.SIGKILL)
            reached += 1

    # Nothing here speaks TLS, and to read the certificates takes longer than all else.
    client = httpx.AsyncClient(base_url=url, timeout=8.0, trust_env=False, verify=False)
    async with open_pool(conninfo, size=1) as pool, client as http:
        steps = Steps(
            WatchedStock(Reservations(pool), watch),
            WatchedPayment(HttpPayment(http), watch),
            WatchedShipping(SlowShipping(http, pool), watch),
            tries=1,
        )
        rows = WatchedRows(Sagas(pool), watch)
        for command in commands:
            await rows.accept(command)
        orchestrator = Orchestrator(rows, steps, name=str(os.getpid()), limits=LIMITS)
        await orchestrator.run_until_idle()
        # It may be in one of its pauses: all points come before its end.
        while point >= 0 and not await ended(pool, commands[-1].saga):
            await orchestrator.run_until_idle()


def run(conninfo: str, url: str, commands: Sequence[CheckoutRequested], point: int) -> None:
    asyncio.run(main(conninfo, url, commands, point))
