"""What a lane of the load says is due, and what it counts."""

import threading
from itertools import islice

import pytest

from bench.lane import Lane, LoadReport, Totals
from bench.workload import Kind, Line, Transaction, WorkloadPlan


def order(number: int, lines: int = 1) -> Transaction:
    rows = tuple(Line(f"SKU-{line}", "WH-1", 0, 1) for line in range(lines))
    return Transaction(Kind.ORDER, f"ORD-{number}", rows)


def shipment(number: int) -> Transaction:
    return Transaction(Kind.SHIPMENT, f"ORD-{number}", (Line("SKU-0", "WH-1", -1, -1),))


def lane_of(transactions, pace=None, duration=None, told=None) -> tuple[Lane, LoadReport]:
    totals = Totals(lambda _: None if told is None else told.append(1))
    return Lane(transactions, pace, duration, threading.Event(), totals), totals.report


def test_an_order_that_was_refused_is_neither_shipped_nor_cancelled():
    planned = [order(1), order(2), shipment(1), shipment(2)]
    told: list[int] = []
    lane, report = lane_of(planned, told=told)
    done = []
    for _, transaction in lane.steps():
        lane.carried_out(transaction, 0 if transaction is planned[0] else 1)
        done.append(transaction)
    assert done == [planned[0], planned[1], planned[3]]
    assert (report.orders_granted, report.orders_refused, report.refused) == (1, 1, 1)
    assert (report.transactions, report.changes, len(told)) == (2, 2, 3)
    assert report.by_kind == {Kind.ORDER: 1, Kind.SHIPMENT: 1}


@pytest.mark.parametrize(("changed", "rows"), [(5, 5), (4, 4), (0, 5)])
def test_what_is_due_next_follows_from_the_rows_that_were_changed(changed, rows):
    lane, _ = lane_of([order(1, lines=5), order(2)], pace=10.0)
    steps = lane.steps()
    seconds, transaction = next(steps)
    assert seconds == 0
    lane.carried_out(transaction, changed)
    seconds, _ = next(steps)
    assert 10 * rows - 5 < seconds <= 10 * rows


def test_flat_out_everything_is_due_at_once():
    lane, _ = lane_of(WorkloadPlan().transactions())
    for seconds, transaction in islice(lane.steps(), 50):
        assert seconds == 0
        lane.carried_out(transaction, len(transaction.lines))


def test_what_falls_due_too_late_is_only_waited_out():
    lane, report = lane_of([order(1), order(2), order(3)], pace=60.0, duration=90.0)
    done = []
    for seconds, transaction in lane.steps():
        done.append((round(seconds), transaction and transaction.reference))
        if transaction is not None:
            lane.carried_out(transaction, 1)
    assert done == [(0, "ORD-1"), (60, "ORD-2"), (90, None)]
    assert report.transactions == 2
