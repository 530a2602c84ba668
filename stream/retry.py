"""An outage is waited for, however long it lasts; who asks is told which."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from stamina import retry_context

from inventory.errors import Outage

_T = TypeVar("_T")


def _to_nobody(_: str | None) -> None:
    """Where nobody asks for outages."""


class Outages:
    """The outages that this process waits for now; any thread may ask.

    Attributes:
        report: is told the sentence whenever it may have changed.
    """

    def __init__(self) -> None:
        """None, and nobody to tell."""
        self._waiting: dict[object, str] = {}
        self.report: Callable[[str | None], None] = _to_nobody

    def sentence(self) -> str | None:
        """What is waited for, the longest first; None for nothing."""
        return next(iter([*self._waiting.values()]), None)

    def met(self, who: object, outage: Outage) -> None:
        """Note that somebody waits."""
        self._waiting[who] = str(outage)
        self.report(self.sentence())

    def over(self, who: object) -> None:
        """Note that somebody does not wait any longer."""
        if self._waiting.pop(who, None) is not None:
            self.report(self.sentence())


#: Of this process.
OUTAGES = Outages()


async def until_it_works(work: Callable[[], Awaitable[_T]], outages: Outages = OUTAGES) -> _T:
    """What `work` gives, tried again with growing pauses while it raises `Outage`."""
    who = object()
    try:
        async for attempt in retry_context(
            on=Outage, attempts=None, timeout=None, wait_initial=0.05, wait_jitter=0.1, wait_max=2.0
        ):
            with attempt:
                try:
                    return await work()
                except Outage as outage:
                    outages.met(who, outage)
                    raise
    finally:
        outages.over(who)
    raise AssertionError("unreachable: retried without end")
