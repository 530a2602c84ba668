"""An outage is waited for, however long it lasts."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from stamina import retry_context

from inventory.errors import Outage

_T = TypeVar("_T")


async def until_it_works(work: Callable[[], Awaitable[_T]]) -> _T:
    """What `work` gives, tried again with growing pauses while it raises `Outage`."""
    async for attempt in retry_context(
        on=Outage, attempts=None, timeout=None, wait_initial=0.05, wait_jitter=0.1, wait_max=2.0
    ):
        with attempt:
            return await work()
    raise AssertionError("unreachable: retried without end")
