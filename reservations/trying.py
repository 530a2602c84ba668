"""Going on against others who want the same rows, with jitter and within bounds."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import stamina
from psycopg import AsyncConnection
from psycopg.errors import (
    DeadlockDetected,
    LockNotAvailable,
    SerializationFailure,
    UniqueViolation,
)
from psycopg_pool import AsyncConnectionPool
from stamina.instrumentation import RetryDetails, RetryHook, get_on_retry_hooks, set_on_retry_hooks

_T = TypeVar("_T")

#: Seconds that a request goes on against others, from when it has a connection.
PATIENCE_SECONDS = 5.0
#: Pauses between two attempts, in seconds. Short: the connection is kept, so that who came first
#: is served before those who wait for one, and only as many compete as there are connections.
_FIRST_PAUSE, _JITTER, _LONGEST_PAUSE = 0.001, 0.004, 0.05


class Conflicted(Exception):  # noqa: N818 - a state of the world, not a fault
    """Others were faster, or hold the rows; another attempt may succeed."""


#: What Postgres says of the same. A violated key is a concurrent duplicate, whose answer is there
#: at the next look.
_CONFLICTS = (
    SerializationFailure,
    LockNotAvailable,
    DeadlockDetected,
    UniqueViolation,
)


@dataclass(slots=True)
class Tally:
    """Attempts after the first one."""

    retries: int = 0


async def keep_trying(
    pool: AsyncConnectionPool,
    work: Callable[[AsyncConnection], Awaitable[_T]],
    patience_seconds: float,
    tally: Tally,
    *,
    at_last: Callable[[AsyncConnection], Awaitable[_T]] | None = None,
) -> _T:
    """What `work` gives, on one connection, tried again while it conflicts with others.

    Args:
        pool: where the connection comes from; it is kept until there is an answer.
        work: one attempt.
        patience_seconds: from when there is a connection; the attempt that is under way then is
            the last one of `work`.
        tally: counts the attempts after the first one.
        at_last: what is done once, instead of giving up, when the patience is over.

    Raises:
        Conflicted: they were faster each time until the patience was over.
        psycopg.errors.UniqueViolation: something is there already that is no duplicate.
    """
    async with pool.connection() as connection:

        async def attempt(work: Callable[[AsyncConnection], Awaitable[_T]] = work) -> _T:
            try:
                return await work(connection)
            except _CONFLICTS as exc:
                raise Conflicted(str(exc)) from exc

        until = time.monotonic() + patience_seconds
        try:
            # Most need no second attempt: for them nothing is set up.
            try:
                return await attempt()
            except Conflicted as conflict:
                left = until - time.monotonic()
                # Who has waited for a lock all the while is not made to wait as long again; who met
                # a duplicate finds its answer at the next look.
                if left > 0 or isinstance(conflict.__cause__, UniqueViolation):
                    return await _again(attempt, max(left, _FIRST_PAUSE), tally)
                raise
        except Conflicted as conflict:
            if isinstance(conflict.__cause__, UniqueViolation):
                raise conflict.__cause__ from None
            if at_last is None:
                raise
        tally.retries += 1
        return await attempt(at_last)


async def _again(attempt: Callable[[], Awaitable[_T]], seconds: float, tally: Tally) -> _T:
    async for again in stamina.retry_context(
        on=Conflicted,
        attempts=None,
        timeout=seconds,
        wait_initial=_FIRST_PAUSE,
        wait_jitter=_JITTER,
        wait_max=_LONGEST_PAUSE,
    ):
        with again:
            tally.retries += 1
            return await attempt()
    raise AssertionError("unreachable: tried until it works or fails")


class _ButOurs:
    """A hook of stamina that is not told what is tried again here."""

    def __init__(self, hook: RetryHook) -> None:
        self._hook = hook

    def __call__(self, details: RetryDetails) -> AbstractContextManager[None] | None:
        return None if isinstance(details.caused_by, Conflicted) else self._hook(details)


def log_no_retries() -> None:
    """Leave what is tried again here out of stamina's log: there may be thousands a second.

    For entry points. All other retries are logged as they were.
    """
    set_on_retry_hooks(
        [hook if isinstance(hook, _ButOurs) else _ButOurs(hook) for hook in get_on_retry_hooks()]
    )
