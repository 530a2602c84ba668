"""Composition root of a worker process: settings in, one running Faust app out."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, TypeVar

import redis.asyncio
import structlog

from health import Health, serve
from inventory.errors import ProjectionLost, StockwireError
from inventory.groups import AVAILABILITY, CHECKOUT, LEDGER, READS, TAKES, group_id
from inventory.settings import Settings
from inventory.topics import ALERTS, DEAD_LETTER, STOCK
from projections.checkpoint import Checkpoints
from projections.marks import Marks
from projections.writer import ProjectionWriter
from stream.agents.availability import AvailabilityAgent
from stream.agents.ledger import LedgerAgent
from stream.alerts import Alerts, KafkaAlertLog
from stream.catchup import CatchUp
from stream.checkout import checkout_work
from stream.delivery import BatchApp
from stream.freshness import Freshness
from stream.inbox import Inbox
from stream.parts import MakeWork, Parts, Work, follow_policies
from stream.pipeline import run_agent
from stream.publisher import KafkaPublisher, Publisher
from stream.recovery import PROJECTION, Recovery
from stream.retry import OUTAGES
from stream.roll import Roll
from stream.standing import KafkaStandings
from stream.stock_reader import StockReader
from stream.sweep import Sweep
from stream.told import Told
from stream.watchdog import KafkaOffsets, Watchdog, pulse

log = structlog.stdlib.get_logger(__name__)

#: Checks that this module answers for.
_OUTAGE = "outage"

#: Records that wait in memory at most; each is about 1 KB.
INBOX_LIMIT = 5_000

_T = TypeVar("_T")


async def availability_work(parts: Parts) -> Work:
    """Writes the Redis projection and tells the availability channels."""
    policies = await follow_policies(parts)
    client = redis.asyncio.Redis.from_url(str(parts.settings.redis_url), socket_timeout=5.0)
    parts.resources.push_async_callback(client.aclose)
    projector = ProjectionWriter(client)
    alerts = Alerts(KafkaAlertLog(parts.settings.kafka_bootstrap, parts.identity))
    told = Told(Marks(client), policies, parts.inbox, lambda: recovery.whole())
    recovery = Recovery(
        Checkpoints(client),
        projector,
        told,
        READS[AVAILABILITY],
        lambda: parts.inbox.epoch,
        lambda text: parts.health.problem(PROJECTION, text),
    )
    parts.health.expect(PROJECTION)
    sweep = Sweep(
        client,
        told,
        projector,
        parts.publisher,
        policies,
        alerts,
        parts.inbox,
        recovery.whole,
        parts.settings.partitions,
        parts.identity,
        recovery.told,
    )
    agent = AvailabilityAgent(told, projector, parts.publisher, alerts, recovery)
    parts.beside(recovery.watch(), "Watching the projection")
    return Work(agent, sweep, recovery.begin)


async def ledger_work(parts: Parts) -> Work:
    """Tells warehouse systems and ledgers."""
    policies = await follow_policies(parts)
    bootstrap = parts.settings.kafka_bootstrap
    standings = KafkaStandings(bootstrap, parts.identity, parts.settings.partitions)
    parts.resources.callback(standings.close)
    roll = Roll(policies, parts.publisher, standings, parts.inbox, parts.assigned)
    reader = StockReader(bootstrap, parts.identity, parts.inbox.wake)
    parts.resources.push_async_callback(reader.close)
    catch_up = CatchUp(roll, parts.publisher, standings, reader, parts.settings.partitions)
    return Work(LedgerAgent(roll), catch_up)


#: Those that are always there.
AGENTS: MappingProxyType[str, MakeWork] = MappingProxyType(
    {AVAILABILITY: availability_work, LEDGER: ledger_work}
)

#: All that there are.
WORKS: MappingProxyType[str, MakeWork] = MappingProxyType({**AGENTS, CHECKOUT: checkout_work})


def client_id(agent: str, pid: int) -> str:
    """How a worker names itself to the brokers; `make up` finds its worker by it."""
    return f"stockwire-{agent}-{pid}"


def make_app(agent: str, settings: Settings, inbox: Inbox) -> BatchApp:
    """A Faust app that consumes raw bytes, holds no tables and listens on no port."""
    return BatchApp(
        group_id(agent),
        inbox=inbox,
        broker=[f"aiokafka://{server}" for server in settings.kafka_bootstrap.split(",")],
        broker_client_id=client_id(agent, os.getpid()),
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.5,
        broker_commit_interval=1.0,
        broker_max_poll_records=2000,
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        store="memory://",
        web_enabled=False,
    )


async def run_worker(
    name: str, settings: Settings, make_work: MakeWork, publisher: Publisher | None = None
) -> None:
    """Run one worker until SIGTERM or SIGINT, then finish the batch in hand and leave the group.

    Raises:
        StockwireError: something it cannot work without is missing.
        Exception: whatever ended the app; nothing unacknowledged has been committed.
    """
    identity = client_id(name, os.getpid())
    health = Health(name)
    OUTAGES.report = lambda sentence: health.problem(_OUTAGE, sentence)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as resources:
        resources.enter_context(serve(health, settings.health_port))
        inbox = Inbox(INBOX_LIMIT)
        app = make_app(name, settings, inbox)
        watchdog = _look_after(app, health, settings, identity, name)
        resources.callback(watchdog.over)
        if publisher is None:
            kafka = KafkaPublisher(settings.kafka_bootstrap, identity, (DEAD_LETTER, ALERTS))
            resources.callback(kafka.close)
            app.run_beside(kafka.watch(inbox.wake), "Watching the topics")
            publisher = kafka
        parts = Parts(
            settings,
            identity,
            publisher,
            inbox,
            lambda: app.partitions(STOCK),
            health,
            resources,
            app.run_beside,
        )
        work = await _unless(stopping, make_work(parts))
        if work is None:
            return
        app.begin = work.begin
        app.consume(TAKES[name], lambda inbox: run_agent(inbox, work.agent, work.background))
        resources.push_async_callback(app.stop)
        if work.finish is not None:
            resources.push_async_callback(work.finish)
        resources.callback(watchdog.expect_end)
        resources.enter_context(watchdog.watching())
        await app.start()
        health.started()
        log.info("worker started", agent=work.agent.name)
        await app.wait_for_stopped(stopping)
        if isinstance(app.crash_reason, ProjectionLost):
            health.problem(PROJECTION, str(app.crash_reason))
            log.error("projection lost", reason=str(app.crash_reason))
        log.info("worker stopping", signalled=stopping.is_set())
    if app.crash_reason is not None:
        raise app.crash_reason
    if not stopping.is_set():
        raise StockwireError(f"The {name} worker has stopped by itself; see the lines above.")


def _look_after(
    app: BatchApp,
    health: Health,
    settings: Settings,
    identity: str,
    name: str,
) -> Watchdog:
    """Have the worker's health found out; whoever ends the worker should it stall."""
    bootstrap, inbox = settings.kafka_bootstrap, app.inbox
    watchdog = Watchdog(
        health,
        app.held,
        inbox.confirmed,
        lambda: OUTAGES.sentence() is not None,
        KafkaOffsets(bootstrap, identity, group_id(name)),
        settings.stall_seconds,
    )
    if name in READS:
        freshness = Freshness(
            health,
            bootstrap,
            identity,
            inbox.oldest,
            lambda: watchdog.still,
            settings.fresh_seconds,
        )
        app.run_beside(freshness.follow(), "Following the heartbeat")
    app.run_beside(pulse(health, app.held), "The pulse")
    return watchdog


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """What the work gives; None if it was given up when told to stop."""
    working, told = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if working.done():
        return await working
    working.cancel()
    # What it has opened is closed by it, or is among the resources by now.
    await asyncio.wait({working})
    return None
