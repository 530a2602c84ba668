"""The process `reservations`: ends holds on time, settles flash sales, removes what is old."""

import asyncio
import os
import socket
from collections import Counter
from contextlib import AsyncExitStack

import structlog
from psycopg_pool import AsyncConnectionPool

from health import Health
from inventory.errors import Outage
from inventory.settings import Settings
from reservations.expiry import run_expiry
from reservations.flash import FlashSales
from reservations.flash.counter import open_redis
from reservations.flash.settler import Settler
from reservations.idempotency import clean_up
from reservations.pool import open_pool
from reservations.rounds import OUTAGE_SECONDS, run_rounds, wait_for_stop
from reservations.service import Reservations
from reservations.trying import log_no_retries

log = structlog.stdlib.get_logger(__name__)

#: What must have been done once before the process is ready; they stand in its readiness.
EXPIRY, FLASH_EXPIRY, SETTLEMENT, RETENTION = (
    "expiry",
    "flash_expiry",
    "settlement",
    "retention",
)
#: The sessions' name in Postgres.
NAME = "stockwire-keeper"

#: One for each kind of work: none of them waits for another one.
_CONNECTIONS = 4
#: Seconds without a connection to Postgres after which there is an outage to tell of.
_WAIT_SECONDS = 2.0
#: Seconds between two removals of what is old.
_RETENTION_SECONDS = 600.0
#: Seconds between two turns of the main loop, as /live has them.
_TURN_SECONDS = 1.0


async def keep(settings: Settings, health: Health, stop: asyncio.Event) -> None:
    """Look after reservations until `stop` is set; any number of processes may.

    Outages are waited for and told in `health`.

    Args:
        settings: where Postgres and Redis are.
        health: told of every round.
        stop: ends it, after what is in hand.
    """
    log_no_retries()
    health.expect(EXPIRY, FLASH_EXPIRY, SETTLEMENT, RETENTION)
    health.started()
    async with AsyncExitStack() as resources, asyncio.TaskGroup() as tasks:
        done: Counter[str] = Counter()
        tasks.create_task(_turn(health, done, stop))
        pool = await _open_pool(resources, settings.conninfo(), health, stop)
        if pool is None:
            return
        redis = await resources.enter_async_context(open_redis(str(settings.redis_url)))
        reservations = Reservations(pool)
        sales = FlashSales(pool, redis, reservations=reservations)
        settler = Settler(sales, redis, f"{socket.gethostname()}-{os.getpid()}")

        def note(what: str, count: int) -> None:
            done[what] += count

        async def remove_what_is_old() -> float:
            for query, rows in (await clean_up(pool)).items():
                note(query, rows)
            return _RETENTION_SECONDS

        log.info("looking after reservations")
        tasks.create_task(
            run_expiry(
                reservations.expire_due,
                stop,
                on_expired=lambda ended: note("expired", ended),
                tell=lambda text: health.problem(EXPIRY, text),
            )
        )
        tasks.create_task(
            run_expiry(
                sales.expire_due,
                stop,
                on_expired=lambda ended: note("flash_expired", ended),
                tell=lambda text: health.problem(FLASH_EXPIRY, text),
            )
        )
        tasks.create_task(
            settler.run(
                stop,
                on_settled=lambda grants: note("settled", grants),
                tell=lambda text: health.problem(SETTLEMENT, text),
            )
        )
        tasks.create_task(
            run_rounds(
                RETENTION,
                remove_what_is_old,
                stop,
                tell=lambda text: health.problem(RETENTION, text),
                # Its statements have timeouts of their own; how many there are is not bounded.
                round_seconds=None,
            )
        )
        await stop.wait()


async def _turn(health: Health, done: Counter[str], stop: asyncio.Event) -> None:
    """Say again and again that the main loop turns, and what was done."""
    while not stop.is_set():
        health.turn()
        health.facts(**done)
        await wait_for_stop(stop, _TURN_SECONDS)


async def _open_pool(
    resources: AsyncExitStack, conninfo: str, health: Health, stop: asyncio.Event
) -> AsyncConnectionPool | None:
    """Connections to Postgres, however long it is away; None if it is stopped meanwhile."""
    while not stop.is_set():
        try:
            return await resources.enter_async_context(
                open_pool(conninfo, size=_CONNECTIONS, wait_seconds=_WAIT_SECONDS, name=NAME)
            )
        except Outage as outage:
            health.problem(EXPIRY, str(outage))
            await wait_for_stop(stop, OUTAGE_SECONDS)
    return None
