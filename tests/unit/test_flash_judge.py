"""Which grants a sale has units for, and where a counter differs."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import InvalidEvent
from reservations.flash.counter import Head, Standing
from reservations.flash.grant import Asked, Grant, Sale, decode_grant, judge
from reservations.flash.upkeep import compare, is_lost

SALE = Sale(7, "A", "W1", "shop", "S", 10, 10, 2, 1, 0, 3, 5, False)


def grant(sequence: int = 6, quantity: int = 1, **more) -> Grant:
    asked = Asked("web", f"k{sequence}", "ORD", b"\x01")
    return replace(Grant(7, 3, sequence, quantity, 1_000, uuid4(), asked), **more)


def test_unsold_is_what_nobody_has():
    assert SALE.unsold == 7


@given(st.lists(st.integers(1, 5), max_size=12))
def test_no_more_is_settled_than_there_is(quantities):
    grants = [grant(n, quantity) for n, quantity in enumerate(quantities)]
    verdict = judge(SALE, grants, ())
    assert sum(each.quantity for each in verdict.settle) <= SALE.unsold
    assert sorted(g.sequence for g in [*verdict.settle, *verdict.overdrawn]) == [
        *range(len(grants))
    ]


def test_what_becomes_of_grants():
    known, late, other, good = grant(1), grant(2, epoch=2), grant(3, sale=6), grant(4)
    verdict = judge(SALE, [good, good, other, late, known], {known.reservation})
    assert verdict.settle == [good]
    assert verdict.known == [known, good]
    assert verdict.late == [late]
    assert verdict.gone == [other]
    assert judge(replace(SALE, closed=True), [good], ()).gone == [good]


def test_who_was_first_has_the_last_unit():
    first, second = grant(6, 7), grant(7, 1)
    verdict = judge(SALE, [second, first], ())
    assert (verdict.settle, verdict.overdrawn) == ([first], [second])


@given(st.text(), st.text(), st.text(), st.binary(max_size=32))
def test_a_record_is_read_as_it_was_written(caller, key, reference, request):
    written = grant(asked=Asked(caller, key, reference, request))
    assert decode_grant(written.encode()) == written


@pytest.mark.parametrize("record", [b"", b"x", b"1 2 3 4 5 x []", grant().encode()[:-1]])
def test_what_is_no_record_is_said_to_be_none(record):
    with pytest.raises(InvalidEvent):
        decode_grant(record)


@pytest.mark.parametrize(
    ("head", "lost"),
    [
        (None, True),
        (Head(7, 3, 5, True), False),
        (Head(7, 3, 6, True), False),
        (Head(7, 3, 4, True), True),
        (Head(7, 2, 5, True), True),
        (Head(6, 3, 5, True), True),
        (Head(7, 3, 5, False), True),
    ],
)
def test_when_a_counter_is_lost(head, lost):
    assert is_lost(SALE, head) is lost


def test_a_counter_is_compared_with_what_is_on_its_way():
    live, back, sold, unsettled = (UUID(int=n) for n in range(1, 5))
    ended = {live: None, back: "back", sold: "sold"}
    holds = {live: 2, back: 1, sold: 1, unsettled: 3}
    drift = compare(SALE, Standing(Head(7, 3, 9, True), 3, holds), {live}, ended)
    assert drift.sound
    assert (drift.expected, drift.unsettled, drift.untold) == (3, 3, (back, sold))
    drift = compare(SALE, Standing(Head(7, 3, 9, True), 4, {}), {live}, {})
    assert not drift.sound
    assert (drift.left, drift.expected, drift.missing) == (4, 7, (live,))
    assert compare(SALE, None, {live}, {}).lost
