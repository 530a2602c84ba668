"""When a worker counts as stalled, and when it does not."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.stall import PATIENCE, Judge, Look, pace

LIMIT = 30.0
PACE = pace(LIMIT)
A, B = ("t", 0), ("t", 1)


def watch(judge: Judge, looks: Iterable[Look]) -> str | None:
    """The first complaint."""
    return next(filter(None, map(judge.see, looks)), None)


def looks(seconds: float, start: float = 0.0, **changes) -> list[Look]:
    """A worker for so long; a change is a value, or a function of the seconds gone."""
    count = int(seconds / PACE) + 1
    made = []
    for number in range(count):
        gone = number * PACE
        values = {
            "turned": start + gone,
            "positions": {A: 5, B: 7},
            "ends": {A: 5, B: 7},
        } | {name: value(gone) if callable(value) else value for name, value in changes.items()}
        made.append(Look(at=start + gone, **values))
    return made


def test_the_pace_leaves_many_looks_within_the_limit():
    assert pace(30) == 2
    assert pace(3) == 0.2
    assert pace(3600) == 2


def test_lag_that_nothing_takes_is_a_stall_after_the_limit_and_not_before():
    judge = Judge(LIMIT)
    assert watch(judge, looks(LIMIT - PACE, ends={A: 105, B: 7})) is None
    assert judge.still() >= LIMIT - 2 * PACE
    said = watch(judge, looks(3 * PACE, start=LIMIT, ends={A: 105, B: 7}))
    assert said is not None
    assert "100 records wait, and partition 0 of t has not moved from offset 5 for 30 s" in said


@pytest.mark.parametrize(
    ("quiet", "changes"),
    [
        ("idle", {}),
        ("nothing held", {"positions": {}, "ends": {}}),
        ("Kafka silent", {"answers": False, "positions": {}, "ends": {}}),
        (
            "Kafka silent in a rebalance",
            {"answers": False, "assigned": False, "positions": {}, "ends": {}},
        ),
        ("outage", {"waiting": True, "ends": {A: 105, B: 7}}),
        ("moves a little", {"positions": lambda s: {A: int(s / 20), B: 7}, "ends": {A: 999, B: 7}}),
        (
            "restores: the partition goes on from far back",
            {"positions": lambda s: {A: int(s) * 10, B: 7}, "ends": {A: 10**9, B: 7}},
        ),
        (
            "hot",
            {"positions": lambda s: {A: int(s), B: 7}, "ends": lambda s: {A: int(s) * 100, B: 7}},
        ),
        ("goes back to a checkpoint", {"positions": lambda s: {A: 9 if s < 20 else int(s) - 20}}),
        ("busy all the time", {"positions": lambda s: {A: int(s)}, "ends": lambda s: {A: int(s)}}),
    ],
)
def test_healthy_workers_are_left_alone_for_ten_minutes(quiet: str, changes: dict):
    assert watch(Judge(LIMIT), looks(600, **changes)) is None


def test_partitions_just_assigned_have_the_whole_limit():
    judge = Judge(LIMIT)
    assert watch(judge, looks(LIMIT - PACE, positions={A: 0}, ends={A: 9})) is None
    later = looks(LIMIT - PACE, LIMIT, positions={A: 0, B: 0}, ends={A: 9, B: 9})
    assert watch(judge, later) is None


def test_after_an_outage_the_limit_begins_anew():
    judge = Judge(LIMIT)
    lagging = {"ends": {A: 105, B: 7}}
    assert watch(judge, looks(LIMIT - PACE, **lagging)) is None
    assert watch(judge, looks(300, LIMIT, answers=False)) is None
    assert watch(judge, looks(LIMIT - PACE, LIMIT + 300, **lagging)) is None
    assert watch(judge, looks(2 * PACE, 2 * LIMIT + 300, **lagging)) is not None


def test_one_partition_among_others_that_move_is_waited_for_longer():
    moving = {"positions": lambda s: {A: 0, B: int(s)}, "ends": {A: 9, B: 10**6}}
    assert watch(Judge(LIMIT), looks(PATIENCE * LIMIT - PACE, **moving)) is None
    said = watch(Judge(LIMIT), looks(PATIENCE * LIMIT + 2 * PACE, **moving))
    assert said is not None
    assert "partition 0 of t" in said


def test_a_rebalance_without_end_is_a_stall():
    rebalancing = {"assigned": False, "positions": {}, "ends": {}}
    assert watch(Judge(LIMIT), looks(PATIENCE * LIMIT - PACE, **rebalancing)) is None
    said = watch(Judge(LIMIT), looks(PATIENCE * LIMIT + PACE, **rebalancing))
    assert said is not None
    assert "rebalance" in said


@pytest.mark.parametrize("changes", [{}, {"answers": False}, {"waiting": True}])
def test_a_loop_that_does_not_turn_is_a_stall_whatever_else_there_is(changes: dict):
    assert watch(Judge(LIMIT), looks(LIMIT - PACE, turned=0.0, **changes)) is None
    said = watch(Judge(LIMIT), looks(LIMIT + PACE, turned=0.0, **changes))
    assert said is not None
    assert "event loop has not turned" in said


@given(st.lists(st.floats(0, 100_000), max_size=10))
def test_a_process_that_was_stopped_has_not_stalled(stops: list[float]):
    """SIGSTOP, however long and often: each counts as one pause between two looks."""
    judge, at = Judge(LIMIT), 0.0
    for number, stop in enumerate(stops):
        lagging = {"turned": at, "positions": {A: number}, "ends": {A: 99}}
        assert judge.see(Look(at, **lagging)) is None
        # The watchdog may look before the loop has turned and the fetcher is back.
        at += stop
        assert judge.see(Look(at, **lagging)) is None
        at += PACE


_spells = st.lists(
    st.tuples(
        st.integers(1, 25),  # looks
        st.integers(0, 1),  # records taken before each
        st.integers(0, 2),  # records that came before each
        st.sampled_from([True, True, False]),  # Kafka answers
        st.sampled_from([False, False, True]),  # an outage is waited for
    ),
    max_size=12,
)


@given(_spells)
def test_only_a_whole_limit_of_lag_and_standstill_is_a_stall(spells: list):
    """One partition: a verdict falls exactly when it lagged and stood for the limit."""
    steps = [step for many, *step in spells for _ in range(many)]
    judge = Judge(LIMIT)
    position = end = 0
    last, since = None, None
    for number, (taken, came, answers, waiting) in enumerate(steps):
        at = number * PACE
        end += came
        position = min(position + taken, end)
        stood = answers and not waiting and end > position and last == position
        since = (at if since is None else since) if stood else None
        seen = {A: position} if answers else {}
        verdict = judge.see(
            Look(at, at, answers, waiting, positions=seen, ends={A: end} if answers else {})
        )
        assert (verdict is not None) == (since is not None and at - since >= LIMIT)
        last = position if answers else None
