"""Work that is done again and again, through outages, until it is stopped."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from inventory.errors import Outage

log = structlog.stdlib.get_logger(__name__)

#: Seconds after which a round is broken off: somebody no longer answers, and does not hang up.
ROUND_SECONDS = 60.0
#: Seconds until the next attempt while somebody is away.
OUTAGE_SECONDS = 0.5

#: Is told after each round why it could not be done, or None if it was.
Tell = Callable[[str | None], None]


def tell_nobody(_: str | None) -> None:
    """Leave it to the log."""


async def run_rounds(
    name: str,
    work: Callable[[], Awaitable[float]],
    stop: asyncio.Event,
    *,
    tell: Tell = tell_nobody,
    round_seconds: float | None = ROUND_SECONDS,
) -> None:
    """Work in rounds until `stop` is set; a round that has begun is finished.

    An outage is logged once, told, and waited for.

    Args:
        name: of the work, for the log.
        work: one round; gives the seconds until the next one. Broken off anywhere, it may be
            begun anew.
        stop: ends it.
        tell: is told of each round's outcome.
        round_seconds: the longest that a round may take; None for as long as it likes.
    """
    away = False
    while not stop.is_set():
        try:
            async with asyncio.timeout(round_seconds):
                seconds = await work()
        except (Outage, TimeoutError) as exc:
            problem = str(exc) or f"no answer within {round_seconds:g} s"
            if not away:
                log.warning("waiting for an outage to end", work=name, outage=problem)
            away, seconds = True, OUTAGE_SECONDS
            tell(problem)
        else:
            if away:
                log.info("an outage is over", work=name)
            away = False
            tell(None)
        await wait_for_stop(stop, seconds)


async def wait_for_stop(stop: asyncio.Event, seconds: float) -> None:
    """Return when `stop` is set, or after so many seconds; others have their turn in any case."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
