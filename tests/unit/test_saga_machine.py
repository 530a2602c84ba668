"""The saga's machine: whatever fails and whenever it dies, it ends, and what it leaves agrees."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from inventory.errors import InvalidEvent
from reservations.events import Missing
from reservations.saga.command import CheckoutRequested, read_command
from reservations.saga.events import CheckoutCompleted, CheckoutFailed, ending, outbox_columns
from reservations.saga.machine import (
    AskAgain,
    Declined,
    Do,
    GiveUp,
    Limits,
    NoAnswer,
    Record,
    Saga,
    State,
    Status,
    Step,
    Undo,
    Worked,
    apply,
    next_action,
    pause_seconds,
)
from reservations.saga.store import saga_of, steps_json
from tests.saga_world import a_command, a_saga

LIMITS = Limits(attempts=3)

#: What comes of a call: whether the effect happens, whether it is known, or the process dies.
schedules = st.lists(
    st.sampled_from(["worked", "declined", "nothing", "lost", "again", "killed", "killed after"]),
    max_size=40,
)


class World:
    """What the calls do, by step: an effect is there or is not, as with keys of idempotency."""

    def __init__(self, held_seconds: float) -> None:
        self.effects: dict[Step, bool] = {}
        self.barred: set[Step] = set()
        self.refused: set[Step] = set()
        self.held_seconds = held_seconds

    def call(self, saga: Saga, action, fate: str):
        """The outcome; None when the process is killed."""
        step = action.step
        if fate == "killed":
            return None
        if isinstance(action, Undo):
            if fate in ("declined", "nothing", "again"):
                return {
                    "declined": Declined("no"),
                    "nothing": NoAnswer("no answer"),
                    "again": AskAgain("again"),
                }[fate]
            self.effects[step] = False
            self.barred.add(step)
            outcome = Worked({"undone": str(step)})
        else:
            if step in self.refused or (step in self.barred and step not in self.effects):
                return Declined("no")
            if fate == "declined" and not self.effects.get(step):
                self.refused.add(step)
                return Declined("no")
            if fate == "nothing":
                return NoAnswer("no answer")
            if fate == "again" and not self.effects.get(step):
                return AskAgain("again") if step is Step.RESERVE else NoAnswer("busy")
            self.effects[step] = True
            facts = {"number": str(step), "reservation": str(saga.id)}
            until = saga.read_at + timedelta(seconds=self.held_seconds)
            outcome = Worked({**facts, "held_until": until.isoformat()})
        if fate == "killed after":
            return None
        return NoAnswer("lost") if fate == "lost" else outcome


@given(schedules, st.sampled_from([10.0, 900.0]))
def test_it_ends_and_what_it_leaves_agrees(schedule, held_seconds):
    saga, world, fates, told, order = a_saga(), World(held_seconds), iter(schedule), [], []
    # A schedule ends, and then all works: so must the saga.
    for _ in range(len(schedule) + 20):
        action = next_action(saga, LIMITS)
        if action is None:
            break
        if isinstance(action, GiveUp):
            outcome = Worked()
        else:
            outcome = world.call(saga, action, next(fates, "worked"))
        if outcome is None:
            # Killed: the next process has only what was written.
            continue
        before, saga = saga, apply(saga, action, outcome, LIMITS)
        if isinstance(action, Undo) and saga.records[action.step].state is State.UNDONE:
            order.append(action.step)
        assert not before.ended
        if event := ending(saga):
            told.append(event)
    assert saga.ended
    assert len(told) == 1
    done = {step for step, there in world.effects.items() if there}
    if saga.status is Status.COMPLETED:
        assert done == set(Step)
        assert isinstance(told[0], CheckoutCompleted)
    else:
        assert done == set()
        assert isinstance(told[0], CheckoutFailed)
        assert told[0].step == saga.failed_step
    assert order == sorted(order, key=list(Step).index, reverse=True)


@given(schedules)
def test_its_row_holds_all_of_it(schedule):
    saga, world = a_saga(), World(900.0)
    for fate in schedule:
        action = next_action(saga, LIMITS)
        if action is None:
            break
        outcome = Worked() if isinstance(action, GiveUp) else world.call(saga, action, fate)
        if outcome is not None:
            saga = apply(saga, action, outcome, LIMITS)
    row = {
        "id": saga.id,
        "command": json.loads(saga.command.model_dump_json()),
        "steps": json.loads(steps_json(saga.records)),
        "version": saga.version,
        "read_at": saga.read_at,
    }
    assert saga_of(row) == saga


def test_the_status_follows_from_the_steps():
    for states in product(State, repeat=4):
        records = {step: Record(state) for step, state in zip(Step, states, strict=True)}
        saga = replace(a_saga(), records=records)
        assert saga.ended == (saga.status in (Status.COMPLETED, Status.FAILED))
        if saga.status is Status.FAILED:
            assert not {State.DONE, State.UNKNOWN} & set(states)
        if saga.status is Status.COMPLETED:
            assert set(states) == {State.DONE}


def step_through(saga: Saga, *outcomes) -> Saga:
    for outcome in outcomes:
        action = next_action(saga, LIMITS)
        assert action is not None
        saga = apply(saga, action, outcome, LIMITS)
    return saga


def held(saga: Saga, seconds: float = 900.0) -> Worked:
    until = saga.read_at + timedelta(seconds=seconds)
    return Worked({"reservation": str(saga.id), "held_until": until.isoformat()})


def test_nothing_is_paid_for_that_is_not_held_long_enough():
    saga = a_saga()
    saga = step_through(saga, held(saga, LIMITS.margin_seconds - 1))
    assert isinstance(next_action(saga, LIMITS), GiveUp)
    saga = step_through(saga, Worked())
    # A process that died may have asked for the money before: it is given back unseen.
    assert next_action(saga, LIMITS) == Undo(Step.PAY)


def test_a_confirmation_without_answer_is_never_given_up():
    saga = a_saga()
    saga = step_through(saga, held(saga), Worked(), Worked())
    saga = step_through(saga, *[NoAnswer("away")] * 50, *[AskAgain("conflict")] * 50)
    assert next_action(saga, LIMITS) == Do(Step.CONFIRM)


def test_a_refused_confirmation_undoes_all_of_it_in_reverse():
    saga = a_saga()
    saga = step_through(saga, held(saga), Worked(), Worked(), Declined("expired"))
    for step in (Step.SHIP, Step.PAY, Step.RESERVE):
        assert next_action(saga, LIMITS) == Undo(step)
        saga = step_through(saga, Worked())
    assert (saga.status, saga.failed_step) == (Status.FAILED, Step.CONFIRM)
    event = ending(saga)
    assert isinstance(event, CheckoutFailed)
    assert (event.step, event.reason) == (Step.CONFIRM, "expired")


def test_what_is_given_back_is_tried_without_end_and_why_it_failed_is_kept():
    saga = a_saga()
    saga = step_through(saga, held(saga), *[NoAnswer("no answer")] * LIMITS.attempts)
    assert saga.records[Step.PAY].state is State.UNKNOWN
    saga = step_through(saga, *[NoAnswer("refund: no answer")] * 100)
    assert next_action(saga, LIMITS) == Undo(Step.PAY)
    assert saga.records[Step.PAY].reason == "no answer"
    assert saga.records[Step.PAY].trouble == "refund: no answer"
    assert pause_seconds(saga, LIMITS) == LIMITS.longest_pause_seconds


def test_pauses_double():
    saga = a_saga()
    assert pause_seconds(saga, LIMITS) == 0
    pauses = []
    for _ in range(4):
        saga = step_through(saga, NoAnswer("away"))
        pauses.append(pause_seconds(saga, LIMITS))
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_keys_are_the_same_each_time_and_of_their_step_alone():
    command = a_command()
    keys = [a_saga(command).key(step, undo=undo) for step in Step for undo in (False, True)]
    assert keys == [a_saga(command).key(step, undo=undo) for step in Step for undo in (False, True)]
    assert len(set(keys)) == len(keys)
    assert a_saga().key(Step.PAY) != a_saga(command).key(Step.PAY)


def test_an_event_has_one_id():
    saga = a_saga()
    saga = step_through(saga, Declined("insufficient", {"short": [["SKU-1", 3, 1]]}))
    event = ending(saga)
    assert isinstance(event, CheckoutFailed)
    assert event.short == (Missing(sku="SKU-1", wanted=3, available=1),)
    first, second = outbox_columns(event), outbox_columns(ending(saga))
    assert first == second
    assert first["type"] == "checkout.failed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("reference", ""),
        ("reference", "a\0b"),
        ("amount_minor", 0),
        ("amount_minor", "1"),
        ("currency", "eur"),
        ("hold_seconds", 1),
        ("hold_seconds", float("nan")),
        ("lines", []),
        ("lines", [{"sku": "A", "quantity": 0}]),
        ("lines", [{"sku": "A", "quantity": 1}, {"sku": "A", "quantity": 1}]),
        ("more", 1),
    ],
)
def test_a_command_that_can_never_be_done_is_refused(field, value):
    fields = a_command().model_dump(mode="json")
    with pytest.raises(ValidationError):
        CheckoutRequested.model_validate({**fields, field: value})


def test_another_caller_with_the_same_id_has_another_saga():
    command = a_command()
    assert command.saga == command.model_copy().saga
    assert command.saga != command.model_copy(update={"caller": "app"}).saga


def test_a_command_is_read_as_it_came():
    command = a_command()
    assert read_command(command.model_dump_json().encode()) == command
    with pytest.raises(InvalidEvent, match="currency"):
        read_command(command.model_dump_json().replace("EUR", "eur").encode())


@given(st.binary())
def test_whatever_else_comes_is_refused(value):
    with pytest.raises(InvalidEvent):
        read_command(value)
