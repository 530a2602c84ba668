"""Carries sagas on: claims those that are due, so many at a time, and does step after step."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from inventory.errors import Outage
from reservations.saga.machine import (
    Do,
    GiveUp,
    Limits,
    Outcome,
    Saga,
    Undo,
    Worked,
    apply,
    next_action,
    pause_seconds,
)
from reservations.saga.store import LEASE_SECONDS

log = structlog.stdlib.get_logger(__name__)


class Rows(Protocol):
    """What an orchestrator needs of `reservations.saga.store.Sagas`."""

    async def claim(self, most: int, *, claimed_by: str, lease_seconds: float) -> list[Saga]:
        """Sagas for this caller alone."""
        ...

    async def write(self, saga: Saga, *, pause_seconds: float, lease_seconds: float) -> Saga | None:
        """None when the claim is lost."""
        ...

    async def give_back(self, saga: Saga) -> None:
        """Let others take it."""
        ...


class Performer(Protocol):
    """What an orchestrator needs of `reservations.saga.steps.Steps`."""

    @property
    def longest_seconds(self) -> float:
        """The longest that a step may take."""
        ...

    async def perform(self, saga: Saga, action: Do | Undo) -> Outcome:
        """Do it; an outage is an outcome too."""
        ...


def _to_nobody(_: str | None) -> None:
    """Where nobody asks."""


class Orchestrator:
    """One of any number; each saga is worked on by one of them at a time.

    It keeps nothing: what is known of a saga is in its row. Killed between a step and the write of
    its result, the next one does the step again under the same key.
    """

    def __init__(
        self,
        rows: Rows,
        steps: Performer,
        *,
        name: str,
        limits: Limits | None = None,
        at_once: int = 16,
        lease_seconds: float = LEASE_SECONDS,
        idle_seconds: float = 0.25,
        tell: Callable[[str | None], None] = _to_nobody,
    ) -> None:
        """Work on these rows with these ports.

        Args:
            rows: the sagas.
            steps: what does them.
            name: who claims them, for people.
            limits: how long each step is gone on with.
            at_once: the most sagas in memory and under way; the others wait in their rows.
            lease_seconds: after which the saga of a killed orchestrator is taken by another.
            idle_seconds: between two looks for sagas while there are none, or no room.
            tell: hears why no sagas can be claimed, and None each time they can.

        Raises:
            ValueError: a claim may run out in the middle of a step.
        """
        if lease_seconds <= steps.longest_seconds:
            raise ValueError(
                f"a claim of {lease_seconds:g} s may end within a step of "
                f"{steps.longest_seconds:g} s"
            )
        self._rows = rows
        self._steps = steps
        self._name = name
        self._limits = limits or Limits()
        self._at_once = at_once
        self._lease = lease_seconds
        self._idle = idle_seconds
        self._tell = tell
        self._away = False
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._under_way = 0

    def wake(self) -> None:
        """Look for sagas now, for one has just been accepted."""
        self._woken.set()

    def stop(self) -> None:
        """Have `run` end after the steps in hand; what is left is given back."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Carry on what is due until told to stop.

        Raises:
            ExceptionGroup: faults of this program; what was under way is done again by the next.
        """
        async with asyncio.TaskGroup() as group:
            while not self._stopping.is_set():
                self._woken.clear()
                for saga in await self._claim(self._at_once - self._under_way):
                    self._take(group, saga)
                full = self._under_way >= self._at_once
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if full else self._idle):
                        await self._woken.wait()

    async def run_until_idle(self) -> None:
        """Carry on what is due now, to its end or to its pause, and then return."""
        while sagas := await self._claim(self._at_once):
            async with asyncio.TaskGroup() as group:
                for saga in sagas:
                    self._take(group, saga)

    def _take(self, group: asyncio.TaskGroup, saga: Saga) -> None:
        self._under_way += 1
        group.create_task(self._carry_on(saga)).add_done_callback(self._put_down)

    def _put_down(self, _: asyncio.Task[None]) -> None:
        self._under_way -= 1
        self._woken.set()

    async def _claim(self, most: int) -> list[Saga]:
        if most <= 0:
            return []
        try:
            found = await self._rows.claim(most, claimed_by=self._name, lease_seconds=self._lease)
        except Outage as outage:
            if not self._away:
                log.warning("sagas cannot be claimed", reason=str(outage))
            self._away = True
            self._tell(str(outage))
            return []
        self._away = False
        self._tell(None)
        return found

    async def _carry_on(self, claimed: Saga) -> None:
        """Do step after step, until it has ended, must wait, or is somebody else's."""
        saga: Saga | None = claimed
        try:
            while saga is not None and not self._stopping.is_set():
                action = next_action(saga, self._limits)
                if action is None:
                    return
                after = await self._one(saga, action)
                pause = pause_seconds(after, self._limits)
                saga = await self._rows.write(after, pause_seconds=pause, lease_seconds=self._lease)
                if pause:
                    return
            if saga is None:
                log.warning("a saga was claimed by another orchestrator", saga=str(claimed.id))
            else:
                await self._rows.give_back(saga)
        except Outage as outage:
            # Nothing is lost: once the claim is over, it goes on from its row.
            log.warning("a saga cannot be written", saga=str(claimed.id), reason=str(outage))

    async def _one(self, saga: Saga, action: Do | Undo | GiveUp) -> Saga:
        if isinstance(action, GiveUp):
            return apply(saga, action, Worked(), self._limits)
        outcome = await self._steps.perform(saga, action)
        if not isinstance(outcome, Worked):
            log.warning(
                "a step of a saga was in vain",
                saga=str(saga.id),
                reference=saga.command.reference,
                action=str(action),
                outcome=str(outcome),
            )
        return apply(saga, action, outcome, self._limits)
