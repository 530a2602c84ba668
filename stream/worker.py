"""Composition root of a worker process: settings in, one running Faust app out."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import redis.asyncio
import structlog

from inventory.errors import StockwireError
from inventory.settings import Settings
from inventory.topics import STOCK
from projections.writer import ProjectionWriter
from stream.agents.availability import AvailabilityAgent
from stream.agents.ledger import LedgerAgent
from stream.delivery import BatchApp
from stream.inbox import Batch, Inbox
from stream.pipeline import run_agent
from stream.policy import PolicyFollower, PolicyTable
from stream.publisher import KafkaPublisher, Publisher

log = structlog.stdlib.get_logger(__name__)

#: Records that wait in memory at most; each is about 1 KB.
INBOX_LIMIT = 5_000


class Agent(Protocol):
    """What a worker does with each batch."""

    name: str

    async def __call__(self, batch: Batch) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What an agent may be made of; what it opens is closed with `resources`."""

    settings: Settings
    policies: PolicyTable
    publisher: Publisher
    resources: AsyncExitStack


MakeAgent = Callable[[Parts], Agent]


def availability_agent(parts: Parts) -> Agent:
    """The agent that writes the Redis projection and tells the availability channels."""
    client = redis.asyncio.Redis.from_url(str(parts.settings.redis_url), socket_timeout=5.0)
    parts.resources.push_async_callback(client.aclose)
    return AvailabilityAgent(parts.policies, ProjectionWriter(client), parts.publisher)


def ledger_agent(parts: Parts) -> Agent:
    """The agent that tells warehouse systems and ledgers."""
    return LedgerAgent(parts.policies, parts.publisher)


AGENTS: MappingProxyType[str, MakeAgent] = MappingProxyType(
    {"availability": availability_agent, "ledger": ledger_agent}
)


def group_id(agent: str) -> str:
    """The consumer group that all workers of an agent form."""
    return f"stockwire-{agent}"


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
    name: str, settings: Settings, make_agent: MakeAgent, publisher: Publisher | None = None
) -> None:
    """Run one worker until SIGTERM or SIGINT, then finish the batch in hand and leave the group.

    Raises:
        StockwireError: something it cannot work without is missing.
        Exception: whatever ended the app; nothing unacknowledged has been committed.
    """
    identity = client_id(name, os.getpid())
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as resources:
        if publisher is None:
            kafka_publisher = KafkaPublisher(settings.kafka_bootstrap, identity)
            resources.callback(kafka_publisher.close)
            publisher = kafka_publisher
        policies = PolicyFollower(settings.kafka_bootstrap, identity)
        resources.push_async_callback(policies.close)
        if not await _unless(stopping, policies.load()):
            return
        log.info("policy loaded", channels=policies.table.names())
        inbox = Inbox(INBOX_LIMIT)
        agent = make_agent(Parts(settings, policies.table, publisher, resources))
        app = make_app(name, settings, inbox)
        app.consume(STOCK, lambda inbox: run_agent(inbox, agent))
        app.run_beside(policies.follow(), "Following the channel policy")
        resources.push_async_callback(app.stop)
        await app.start()
        log.info("worker started", agent=agent.name)
        await app.wait_for_stopped(stopping)
        log.info("worker stopping", signalled=stopping.is_set())
    if app.crash_reason is not None:
        raise app.crash_reason
    if not stopping.is_set():
        raise StockwireError(f"The {name} worker has stopped by itself; see the lines above.")


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, or give it up when told to stop; whether it was done."""
    working, told = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
    done = working.done()
    for task in (working, told):
        task.cancel()
    if done:
        await working
    return done
