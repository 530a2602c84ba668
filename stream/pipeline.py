"""Takes batches, applies them in order, and confirms each once its effects are acknowledged.

While one batch waits for Kafka, the next is already decoded and written; the order in which
messages are handed to the producer is the order of the batches. Work that no record asks for,
such as telling a new channel everything, is done in small steps between the batches, in the same
order: for each SKU, what is published last is what was computed last.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from stream.inbox import Batch, Inbox

#: Records in a batch at most: larger ones save little and keep Redis busy for longer.
MAX_BATCH = 1000

#: Records that may wait for acknowledgement at once, or one batch: some seconds of an even load,
#: so that a topic that does not answer is given up before the others wait for it.
MAX_IN_FLIGHT = 8000

Handler = Callable[[Batch], Awaitable[Awaitable[None]]]
"""Applies a batch, and returns what to await until its effects are acknowledged."""


class Background(Protocol):
    """Work between the batches."""

    def ready(self) -> bool:
        """Whether there is something to do now; `Inbox.wake` has it asked again."""
        ...

    async def step(self) -> Awaitable[None]:
        """Do a little, and return what to await until its effects are acknowledged."""
        ...


class _Window:
    """Bounds what waits for acknowledgement."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._changed = asyncio.Condition()

    @property
    def full(self) -> bool:
        """Whether nothing more may enter now."""
        return self._size >= self._limit

    async def enter(self, size: int) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._size == 0 or self._size + size <= self._limit
            )
            self._size += size

    async def leave(self, size: int) -> None:
        async with self._changed:
            self._size -= size
            self._changed.notify_all()


_Applied = asyncio.Queue[tuple[Batch, Awaitable[None]]]

#: Steps of background work that may wait for acknowledgement at once: few, so that a topic that is
#: tried again and does not answer is found out before there is much behind it.
MAX_STEPS = 4


async def run_agent(inbox: Inbox, handle: Handler, background: Background) -> None:
    """Empty the inbox until cancelled; an exception ends both halves and leaves as it is."""
    applied: _Applied = asyncio.Queue()
    window, steps = _Window(MAX_IN_FLIGHT), _Window(MAX_STEPS)
    try:
        async with asyncio.TaskGroup() as halves:
            applying = _apply(inbox, handle, background, applied, window, steps)
            halves.create_task(applying, name="apply")
            halves.create_task(_confirm(inbox, applied, window, steps), name="confirm")
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def _apply(
    inbox: Inbox,
    handle: Handler,
    background: Background,
    applied: _Applied,
    window: _Window,
    steps: _Window,
) -> None:
    def step_is_due() -> bool:
        return not steps.full and background.ready()

    while True:
        batch = await inbox.take(MAX_BATCH, step_is_due)
        if batch.records:
            await window.enter(len(batch.records))
            applied.put_nowait((batch, await handle(batch)))
            if not step_is_due():
                continue
            # In turns: stock waits for one step at most, and the steps are not starved.
            batch = inbox.begin()
        await steps.enter(1)
        applied.put_nowait((batch, await background.step()))


async def _confirm(inbox: Inbox, applied: _Applied, window: _Window, steps: _Window) -> None:
    while True:
        batch, acknowledged = await applied.get()
        await acknowledged
        if batch.records:
            await window.leave(len(batch.records))
        else:
            await steps.leave(1)
        await inbox.confirm(batch)
