"""What the guardian does about what it sees."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from connectors.client import ConnectorStatus, TaskStatus
from guard.decide import (
    FIRST_PAUSE,
    FORGET_SECONDS,
    MOST_RESTARTS,
    PATIENCE,
    Action,
    Check,
    Observation,
    State,
    decide,
    pause_before,
)
from guard.facts import LineStop, SlotFacts, Unread

SLOT = SlotFacts(True, "reserved", 0, 0, 10, 1000)
RUNNING = ConnectorStatus("RUNNING", "w", (TaskStatus(0, "RUNNING"),))
FAILED = ConnectorStatus("RUNNING", "w", (TaskStatus(0, "FAILED", "no route to host"),))
STOPPED = ConnectorStatus("STOPPED", "w", ())
GAP = replace(FAILED, tasks=(TaskStatus(0, "FAILED", "LSN is no longer available on the server"),))
NOTE = LineStop("Redis was told 9", datetime(2026, 1, 1, tzinfo=UTC))


def seen(now=0.0, connector=RUNNING, slot=SLOT, **rest):
    return Observation(now, connector, slot, **rest)


def watch(state, *observations):
    """The decisions of one look after the other."""
    decisions = []
    for each in observations:
        decisions.append(decide(state, each))
        state = decisions[-1].state
    return decisions


def restarts(state, connector, seconds, start=0.0, step=0.5):
    """When it restarts, looked at all the time."""
    looks = [seen(start + n * step, connector) for n in range(int(seconds / step))]
    decisions = watch(state, *looks)
    when = [
        look.now for look, d in zip(looks, decisions, strict=True) if Action.RESTART in d.actions
    ]
    return when, decisions[-1]


def test_all_is_well():
    decision = decide(State(), seen())
    assert (decision.actions, decision.problems) == ((), {})


def test_a_failed_task_is_restarted_with_growing_pauses_and_then_left_with_an_alarm():
    when, last = restarts(State(), FAILED, 600)
    assert len(when) == MOST_RESTARTS
    pauses = [b - a for a, b in pairwise(when)]
    assert pauses == [1, 2, 4, 8, 16]
    assert "left alone" in last.problems[Check.CONNECTOR]
    assert "no route to host" in last.problems[Check.CONNECTOR]


def test_earlier_failures_are_forgotten_after_a_long_time_of_running():
    _, last = restarts(State(), FAILED, 600)
    short = watch(last.state, seen(600), seen(600 + FORGET_SECONDS - 1))
    assert restarts(short[-1].state, FAILED, 60, start=1300)[0] == []
    long = watch(last.state, seen(600), seen(600 + FORGET_SECONDS))
    assert len(restarts(long[-1].state, FAILED, 200, start=1300)[0]) == MOST_RESTARTS


@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 120),
            st.sampled_from([RUNNING, FAILED, Unread("down"), STOPPED, None]),
            st.sampled_from([SLOT, Unread("down")]),
        ),
        max_size=200,
    )
)
def test_restarts_are_bounded_and_apart_whatever_happens(steps):
    state, now, made, running_since = State(), 0.0, [], None
    for step, connector, slot in steps:
        now += step
        decision = decide(state, seen(now, connector, slot))
        state = decision.state
        if connector is RUNNING:
            running_since = now if running_since is None else running_since
            if now - running_since >= FORGET_SECONDS:
                made = []
        else:
            running_since = None
        if Action.RESTART in decision.actions:
            assert connector is FAILED
            assert slot is SLOT
            if made:
                assert now - made[-1] >= pause_before(len(made) - 1)
            made.append(now)
        assert len(made) <= MOST_RESTARTS


@given(st.integers(0, 50))
def test_pauses_grow(restart):
    assert FIRST_PAUSE <= pause_before(restart) < pause_before(restart + 1)


def test_no_restart_is_used_up_while_the_database_is_away():
    decisions = watch(State(), *(seen(n, FAILED, Unread("refused")) for n in range(100)))
    assert not any(d.actions for d in decisions)
    assert "refused" in decisions[-1].problems[Check.DATABASE]
    assert decide(decisions[-1].state, seen(100, FAILED)).actions == (Action.RESTART,)


def test_a_gap_in_the_slot_is_not_restarted_away():
    decision = decide(State(), seen(0, GAP))
    assert decision.actions == ()
    assert "stockwire recover slot" in decision.problems[Check.CONNECTOR]


def test_connect_away_is_said_after_a_while_and_left_to_its_supervisor():
    away = Unread("Kafka Connect did not answer")
    early, late = watch(State(), seen(0, away), seen(PATIENCE, away))
    assert (early.actions, early.problems) == ((), {})
    assert late.actions == ()
    assert late.problems == {Check.CONNECT: "Kafka Connect did not answer"}
    assert watch(late.state, seen(40), seen(41, away))[-1].problems == {}


def test_a_connector_that_somebody_stopped_is_said_and_left():
    decision = decide(State(), seen(0, STOPPED))
    assert decision.actions == ()
    assert "STOPPED" in decision.problems[Check.CONNECTOR]
    assert "make up" in decide(State(), seen(0, None)).problems[Check.CONNECTOR]


def test_a_slot_is_watched():
    def problem(slot):
        return decide(State(), seen(slot=slot)).problems.get(Check.SLOT, "")

    assert "recover slot" in problem(None)
    assert "recover slot" in problem(replace(SLOT, wal_status="lost", retained=None, safe=None))
    assert "next checkpoint" in problem(replace(SLOT, wal_status="unreserved"))
    assert problem(replace(SLOT, retained=79, safe=21)) == ""
    assert "80% of what it may" in problem(replace(SLOT, retained=80, safe=20))
    idle = replace(SLOT, active=False)
    first, second = watch(State(), seen(0, slot=idle), seen(PATIENCE, slot=idle))
    assert first.problems == {}
    assert "nobody has read" in second.problems[Check.SLOT]
    assert watch(first.state, seen(5), seen(PATIENCE + 1, slot=idle))[-1].problems == {}


def test_a_database_set_back_stops_the_line():
    decision = decide(State(), seen(slot=None, set_back="Redis was told 9"))
    assert decision.problems.keys() == {Check.VERSIONS}
    assert decision.actions == (Action.STOP_LINE,)
    assert decision.reason == "Redis was told 9"
    assert "stockwire recover database" in decision.problems[Check.VERSIONS]


def test_the_line_stays_stopped_when_the_evidence_has_gone():
    assert decide(State(), seen(stopped=NOTE)).actions == (Action.STOP_LINE,)
    assert decide(State(), seen(connector=FAILED, stopped=NOTE)).actions == (Action.STOP_LINE,)
    stopping = ConnectorStatus("STOPPED", "w", (TaskStatus(0, "RUNNING"),))
    assert decide(State(), seen(connector=stopping, stopped=NOTE)).actions == (Action.STOP_LINE,)
    still = decide(State(), seen(connector=STOPPED, stopped=NOTE))
    assert still.actions == ()
    assert "Redis was told 9" in still.problems[Check.VERSIONS]
    # The note is made even when the connector stands still already.
    unnoted = decide(State(), seen(connector=STOPPED, set_back="why"))
    assert unnoted.actions == (Action.STOP_LINE,)


def test_after_the_recovery_all_is_well():
    stopped = decide(State(), seen(set_back="why"))
    assert decide(stopped.state, seen(10)).problems == {}


def test_what_cannot_be_compared_is_said_and_stops_nothing():
    blind = decide(State(), seen(redis="no route to it", version_unread=True))
    assert blind.actions == ()
    assert Check.REDIS not in blind.problems, "one look without an answer is no news"
    later = decide(blind.state, seen(PATIENCE, redis="no route to it"))
    assert "no route to it" in later.problems[Check.REDIS]
    again = decide(later.state, seen(2 * PATIENCE))
    assert decide(again.state, seen(2 * PATIENCE + 1, redis="gone")).problems == {}
    assert "GRANT USAGE ON SEQUENCE" in blind.problems[Check.VERSIONS]
    # A line that is stopped is the greater news.
    stopped = decide(State(), seen(version_unread=True, stopped=NOTE))
    assert "Redis was told 9" in stopped.problems[Check.VERSIONS]
