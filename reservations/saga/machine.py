"""The saga as a pure state machine: what is next, and what a result makes of it. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

from reservations.saga.command import CheckoutRequested


class Step(StrEnum):
    """What a checkout is made of, in the order in which it is done."""

    RESERVE = "reserve"
    PAY = "pay"
    SHIP = "ship"
    CONFIRM = "confirm"


class State(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    DONE = "done"
    #: It was answered, and the answer was no: there is nothing to undo.
    REFUSED = "refused"
    #: Given up without an answer: it may have been done, now or later, so it is undone.
    UNKNOWN = "unknown"
    UNDONE = "undone"


class Status(StrEnum):
    """Where all of it stands; it follows from the steps."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"


#: Steps in the saga's own database. While that does not answer, no result of theirs can be written
#: either, so they are never given up without an answer.
OWN_STEPS = frozenset({Step.RESERVE, Step.CONFIRM})

_FAILURES = frozenset({State.REFUSED, State.UNKNOWN, State.UNDONE})
_TO_UNDO = frozenset({State.DONE, State.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a step.

    Attributes:
        attempts: in vain, since it or its undoing was begun.
        reason: why the last attempt to do it was in vain.
        trouble: why the last attempt to undo it was in vain.
        facts: what its answer said, as JSON.
    """

    state: State = State.PENDING
    attempts: int = 0
    reason: str | None = None
    trouble: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long it is gone on.

    Attributes:
        attempts: in vain before a step of another service is given up.
        margin_seconds: nothing is paid for or sent that is held for less time than this.
        first_pause_seconds: after the first attempt in vain; it doubles with each one.
        longest_pause_seconds: between two attempts.
    """

    attempts: int = 5
    margin_seconds: float = 30.0
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Saga:
    """A saga as its row says at a `version`; `read_at` is the database's clock at that reading."""

    id: UUID
    command: CheckoutRequested
    version: int
    read_at: datetime
    records: Mapping[Step, Record] = field(
        default_factory=lambda: {step: Record() for step in Step}
    )

    def key(self, step: Step, *, undo: bool = False) -> str:
        """The idempotency key of a step, the same at each attempt and after each crash."""
        return f"{self.id}-undo-{step}" if undo else f"{self.id}-{step}"

    @property
    def failed_step(self) -> Step | None:
        """The step that failed: steps are done in order, so it is the last that was begun."""
        if not any(record.state in _FAILURES for record in self.records.values()):
            return None
        return [step for step in Step if self.records[step].state is not State.PENDING][-1]

    @property
    def status(self) -> Status:
        """Where all of it stands."""
        states = {self.records[step].state for step in Step}
        if states == {State.DONE}:
            return Status.COMPLETED
        if not states & _FAILURES:
            return Status.RUNNING
        return Status.COMPENSATING if states & _TO_UNDO else Status.FAILED

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do, ever."""
        return self.status in (Status.COMPLETED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class Do:
    """Do a step."""

    step: Step


@dataclass(frozen=True, slots=True)
class Undo:
    """Undo a step, or see to it that it is never done."""

    step: Step


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not do the step (any more): there is no time left for it."""

    step: Step
    reason: str


Action: TypeAlias = Do | Undo | GiveUp


@dataclass(frozen=True, slots=True)
class Worked:
    """It is done, by this attempt or an earlier one."""

    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Declined:
    """The answer is no, and stays no."""

    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Nothing was done, and it may work the next time."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nobody knows whether it was done."""

    reason: str


Outcome: TypeAlias = Worked | Declined | AskAgain | NoAnswer


def next_action(saga: Saga, limits: Limits) -> Action | None:
    """What is to be done now; None when the saga has ended.

    A step that is given up for lack of time may have been done by a process that died before it
    could say so. It is undone like one that gave no answer.
    """
    if saga.failed_step is not None:
        behind = [step for step in Step if saga.records[step].state in _TO_UNDO]
        return Undo(behind[-1]) if behind else None
    ahead = [step for step in Step if saga.records[step].state is State.PENDING]
    if not ahead:
        return None
    left = _seconds_held(saga)
    if ahead[0] not in OWN_STEPS and left is not None and left < limits.margin_seconds:
        return GiveUp(ahead[0], f"the units are held for {left:.0f} s more, which is too short")
    return Do(ahead[0])


def apply(saga: Saga, action: Action, outcome: Outcome, limits: Limits) -> Saga:
    """The saga after an action has come to this; its version and time are the writer's.

    Giving up always comes to the same, whatever the outcome.
    """
    record = saga.records[action.step]
    match action:
        case GiveUp(_, reason):
            after = replace(record, state=State.UNKNOWN, attempts=0, reason=reason)
        case Do(step):
            after = _done(step, record, outcome, limits)
        case Undo():
            after = _undone(record, outcome)
    return replace(saga, records={**saga.records, action.step: after})


def pause_seconds(saga: Saga, limits: Limits) -> float:
    """How long to wait before the next action; 0 for not at all."""
    action = next_action(saga, limits)
    attempts = 0 if action is None else saga.records[action.step].attempts
    if not attempts:
        return 0.0
    doubled = limits.first_pause_seconds * 2.0 ** min(attempts - 1, 30)
    return min(doubled, limits.longest_pause_seconds)


def _done(step: Step, record: Record, outcome: Outcome, limits: Limits) -> Record:
    if isinstance(outcome, Worked):
        return Record(State.DONE, facts=outcome.facts)
    if isinstance(outcome, Declined):
        return Record(State.REFUSED, reason=outcome.reason, facts=outcome.facts)
    after = replace(record, attempts=record.attempts + 1, reason=outcome.reason)
    if after.attempts < limits.attempts:
        return after
    if step not in OWN_STEPS:
        return replace(after, state=State.UNKNOWN, attempts=0)
    # A confirmation is asked for until it is granted, or refused because the hold was due.
    if step is Step.RESERVE and isinstance(outcome, AskAgain):
        return replace(after, state=State.REFUSED, attempts=0)
    return after


def _undone(record: Record, outcome: Outcome) -> Record:
    if isinstance(outcome, Worked):
        facts = {**record.facts, **outcome.facts}
        return Record(State.UNDONE, reason=record.reason, facts=facts)
    # What was taken must be given back, so there is no last attempt at it.
    return replace(record, attempts=record.attempts + 1, trouble=outcome.reason)


def _seconds_held(saga: Saga) -> float | None:
    until = saga.records[Step.RESERVE].facts.get("held_until")
    if until is None:
        return None
    return (datetime.fromisoformat(until) - saga.read_at).total_seconds()
