"""How `stockwire load` reports a run."""

import json
from collections import Counter

import pytest

from bench.lane import LoadReport
from bench.workload import Kind
from cli.load import summary, to_json


@pytest.fixture
def report():
    kinds = Counter({Kind.ORDER: 2, Kind.RECEIPT: 1})
    return LoadReport(
        transactions=3,
        changes=5_000,
        refused=1,
        seconds=2.5,
        orders_granted=2,
        orders_refused=1,
        by_kind=kinds,
    )


def test_a_run_is_one_sentence(report):
    assert summary(report) == (
        "5,000 changes in 3 transactions in 2.5 s: 2,000 changes/s "
        "(2 order, 1 receipt; 1 refused for lack of stock)."
    )


def test_a_run_is_one_line_of_json(report):
    text = to_json(report)
    assert "\n" not in text
    assert json.loads(text) == {
        "transactions": 3,
        "changes": 5_000,
        "refused": 1,
        "orders_granted": 2,
        "orders_refused": 1,
        "seconds": 2.5,
        "changes_per_second": 2_000,
        "by_kind": {"order": 2, "receipt": 1},
    }
