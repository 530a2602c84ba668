"""What visits come to: sums, fairness, tables and the picture."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservations.basket import Reason
from simulate.buyers import Buyer, Rush, Told, Visit
from simulate.plot import plot
from simulate.report import _COLUMNS, Left, as_dict, fairness, markdown, summarise, text

NO = Told(granted=False, reason=Reason.INSUFFICIENT)
YES = Told(granted=True)


def visits(*told: Told) -> list[Visit]:
    """One a second, each answered after a second for each place in the line."""
    return [Visit(Buyer(n, n), 100.0 + n, 101.0 + 2 * n, answer) for n, answer in enumerate(told)]


def test_sums():
    again = Told(granted=False, reason=Reason.CONFLICT, asked=3)
    result = summarise("optimistic", Rush(4, 2), visits(YES, NO, again, NO), Left(2, 1), retries=5)
    assert (result.requests, result.granted, result.refused) == (6, 1, 3)
    # Two of its three questions were repeated, besides the five inside.
    assert result.retries == 7
    assert (result.oversold, result.reserved, result.unsold) == (0, 1, 1)
    assert result.reasons == {"conflict": 1, "insufficient": 2}
    # Answers after 1, 2, 3 and 4 s; the last one 7 s after the first arrival.
    assert (result.p50_ms, result.p99_ms, result.seconds) == (2000, 4000, 7)
    assert result.requests_per_second == 0.9


def test_oversold_is_the_worse_of_what_was_said_and_what_is_written():
    rush = Rush(4, 1)
    told = visits(YES, YES, YES, NO)
    assert summarise("naive", rush, told, Left(1, 1), 0).oversold == 2
    assert summarise("naive", rush, visits(YES, NO, NO, NO), Left(1, 4), 0).oversold == 3
    assert summarise("naive", rush, visits(YES, NO, NO, NO), Left(1, 1), 0).oversold == 0


def test_fewer_buyers_than_units_leave_none_unsold_that_anybody_wanted():
    result = summarise("optimistic", Rush(2, 9), visits(YES, YES), Left(9, 2), 0)
    assert (result.unsold, result.oversold, result.fairness) == (0, 0, None)


@pytest.mark.parametrize(
    ("granted", "fair"),
    [
        ([True, True, False, False], 1.0),
        ([False, False, True], 0.0),
        ([True, False, True, False], 0.75),
        ([False, True, False], 0.5),
        ([True, True], None),
        ([False], None),
    ],
)
def test_fairness(granted, fair):
    assert fairness(granted) == fair


@given(st.lists(st.booleans(), max_size=40))
def test_fairness_is_the_part_of_all_pairs_in_order(granted):
    pairs = [
        first
        for place, first in enumerate(granted)
        for second in granted[place + 1 :]
        if first != second
    ]
    expected = round(sum(pairs) / len(pairs), 3) if pairs else None
    assert fairness(granted) == expected


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 45), st.integers(0, 45))
def test_granted_and_refused_are_everybody(granted, units, reserved):
    told = visits(*(YES if yes else NO for yes in granted))
    result = summarise("x", Rush(len(granted), units), told, Left(units, reserved), 0)
    assert result.granted + result.refused == result.requests == len(granted)
    assert (result.oversold == 0) == (max(sum(granted), reserved) <= units)
    assert result.unsold <= result.refused


def test_shown_side_by_side():
    rush = Rush(3, 1)
    results = [
        summarise("optimistic", rush, visits(YES, NO, NO), Left(1, 1), 12_345),
        summarise("naive", rush, visits(YES, YES, YES), Left(1, 1), 0),
    ]
    shown = text(results).splitlines()
    assert len({len(line) for line in shown}) == 1
    assert max(map(len, shown)) <= 104
    assert shown[0].split() == " ".join(_COLUMNS).split()
    assert shown[1].split()[:7] == ["optimistic", "3", "1", "2", "0", "0", "12,345"]
    lines = markdown(results).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {12}
    assert lines[2].startswith("| optimistic | 3 | 1 | 2 | 0 | 0 | 12,345 |")
    assert lines[3].endswith("| - |")
    told = as_dict(rush, 8, results)
    assert (told["buyers"], told["units"], told["seed"], told["pool_size"]) == (3, 1, 1, 8)
    assert [result["oversold"] for result in told["results"]] == [0, 2]


def test_the_picture_is_well_formed_and_has_a_bar_for_each_figure():
    rush = Rush(3, 1)
    results = [
        summarise("a<b", rush, visits(YES, NO, NO), Left(1, 1), 3),
        summarise("naive", rush, visits(YES, YES, YES), Left(1, 1), 0),
    ]
    root = ElementTree.fromstring(plot(rush, results))
    namespace = {"svg": "http://www.w3.org/2000/svg"}
    bars = root.findall("svg:rect", namespace)[1:]
    texts = [text.text for text in root.findall("svg:text", namespace)]
    assert len(bars) == 6 * 2
    assert texts.count("a<b") == 6
    widths = [float(bar.get("width", "")) for bar in bars]
    # Granted: one beside three. Oversold: none beside two. Fairness: 1 beside none.
    assert widths[4] == pytest.approx(widths[5] / 3, abs=0.1)
    assert (widths[6], widths[11]) == (0, 0)
    assert widths[7] > 0
    assert max(widths) <= 720
