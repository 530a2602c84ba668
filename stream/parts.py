"""What an agent may be made of, and what a worker is to do with it."""

from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import structlog

from health import Health
from inventory.settings import Settings
from stream.delivery import Begin
from stream.inbox import Batch, Inbox
from stream.pipeline import Background
from stream.policy import PolicyFollower, PolicyTable
from stream.publisher import Publisher

log = structlog.stdlib.get_logger(__name__)


class Agent(Protocol):
    """What a worker does with each batch."""

    name: str

    async def __call__(self, batch: Batch) -> Awaitable[None]: ...


class Work(NamedTuple):
    """What a worker does.

    Attributes:
        agent: with each batch.
        background: between the batches.
        begin: after an assignment, before the first batch; None to begin where it has committed.
        finish: when it is to end, before the app stops.
    """

    agent: Agent
    background: Background
    begin: Begin | None = None
    finish: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What an agent may be made of; what it opens is closed with `resources`.

    Attributes:
        identity: how the worker names itself to the brokers.
        assigned: the partitions of the stock topic that the worker holds now.
        health: is told what keeps the worker from being ready.
        beside: has something run all the time, of that name; without it the worker ends.
    """

    settings: Settings
    identity: str
    publisher: Publisher
    inbox: Inbox
    assigned: Callable[[], Collection[int]]
    health: Health
    resources: AsyncExitStack
    beside: Callable[[Coroutine[Any, Any, None], str], None]


#: Makes a worker's work; it is cancelled when the worker is told to stop before it begins.
MakeWork = Callable[[Parts], Coroutine[Any, Any, Work]]


async def follow_policies(parts: Parts) -> PolicyTable:
    """The channel policy, once all of it is known; it is kept up to date."""
    policies = PolicyFollower(parts.settings.kafka_bootstrap, parts.identity, parts.inbox.wake)
    parts.resources.push_async_callback(policies.close)
    await policies.load()
    log.info("policy loaded", channels=policies.table.names())
    parts.beside(policies.follow(), "Following the channel policy")
    return policies.table
