"""What one audit has found while rows were written, and a person wants to have healed."""

import pytest

from audit.compare import StockSnapshot
from audit.continuous.repair import _has_come
from audit.report import Difference
from inventory.policy import ChannelOverride
from inventory.stock import StockLevel

NOW = StockSnapshot(
    {"S": {"W": StockLevel(5, 0, 0, 0, None, 8, 0)}},
    (),
    overrides={"S": {"web": ChannelOverride(4, 0, blocked=True)}},
)


@pytest.mark.parametrize(
    ("place", "about", "come"),
    [
        ("redis stock", "W", True),
        ("topic stock.wms.v1", "W", True),
        ("redis overrides", "web", True),
        ("redis stock", "W2", False),
        ("redis overrides", "app", False),
        ("redis web", None, False),
    ],
)
def test_a_row_that_was_written_during_the_audit_is_no_ghost(place, about, come):
    assert _has_come(Difference(place, "S", about, None, {"version": 8}), NOW) is come


def test_a_row_that_differs_is_sent_again():
    assert not _has_come(Difference("redis stock", "S", "W", {"version": 8}, None), NOW)
