"""Takes batches, applies them in order, and confirms each once its effects are acknowledged.

While one batch waits for Kafka, the next is already decoded and written; the order in which
messages are handed to the producer is the order of the batches.
"""

import asyncio
from collections.abc import Awaitable, Callable

from stream.inbox import Batch, Inbox

#: Records in a batch at most: larger ones save little and keep Redis busy for longer.
MAX_BATCH = 1000

#: Batches that may wait for acknowledgement at once.
MAX_IN_FLIGHT = 8

Handler = Callable[[Batch], Awaitable[Awaitable[None]]]
"""Applies a batch, and returns what to await until its messages are acknowledged."""


async def run_agent(inbox: Inbox, handle: Handler) -> None:
    """Empty the inbox until cancelled; an exception ends both halves and leaves as it is."""
    applied: asyncio.Queue[tuple[Batch, Awaitable[None]]] = asyncio.Queue(MAX_IN_FLIGHT)
    try:
        async with asyncio.TaskGroup() as halves:
            halves.create_task(_apply(inbox, handle, applied), name="apply")
            halves.create_task(_confirm(inbox, applied), name="confirm")
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def _apply(
    inbox: Inbox, handle: Handler, applied: asyncio.Queue[tuple[Batch, Awaitable[None]]]
) -> None:
    while True:
        batch = await inbox.take(MAX_BATCH)
        await applied.put((batch, await handle(batch)))


async def _confirm(inbox: Inbox, applied: asyncio.Queue[tuple[Batch, Awaitable[None]]]) -> None:
    while True:
        batch, acknowledged = await applied.get()
        await acknowledged
        await inbox.confirm(batch)
