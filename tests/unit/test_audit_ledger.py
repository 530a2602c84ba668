"""What an audit can say of a ledger that is not told of what it has caused itself."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.report import Key
from inventory.stock import StockLevel
from tests.audit_world import POLICIES, World, world
from tests.histories import Change, histories

ERP = POLICIES[1]
ECHO = replace(ERP, echo_of="erp")
AMS = Key("S", "ams")
TOPIC = "stock.erp.v1"
DRIFT = {"topic stock.erp.v1": 1}
NOW = 1_795_235_627_000_000


def ledger(*quantities: int | None, by: tuple[str | None, ...] = ()) -> World:
    """The row in `ams` with these quantities one after the other, None while it is deleted."""
    history: list[Change] = []
    for n, on_hand in enumerate(quantities, start=1):
        deleted = on_hand is None
        version = history[-1][1].version + 1 if deleted else 2 * n
        level = StockLevel(on_hand or 0, 0, 0, 0, None, version, NOW + n, deleted)
        history.append(("ams", level))
    return world(history, policies=(ECHO,), causes=by)


@given(histories(), st.lists(st.sampled_from([None, "erp", "shop"]), max_size=12))
def test_there_is_no_drift_whoever_causes_what(history: list[Change], causes: list[str | None]):
    assert world(history, policies=(ECHO, *POLICIES[2:]), causes=causes).drift() == {}


def test_a_row_that_the_channel_changed_last_may_be_told_in_an_older_version():
    own = ledger(10, 7, by=("shop", "erp"))
    assert own.topics[TOPIC].messages[AMS]["version"] == 2
    assert own.drift() == {}
    assert ledger(10, by=("erp",)).drift() == {}, "or not at all"
    assert own.with_message(TOPIC, AMS, version=6).drift() == DRIFT, "but not in a newer one"
    assert own.with_message(TOPIC, AMS, version=4).drift() == DRIFT, "nor otherwise than it is"


def test_a_row_that_somebody_else_changed_last_was_told_as_it_is():
    others = ledger(10, 7, 5, by=("shop", "erp", "shop"))
    assert others.topics[TOPIC].messages[AMS]["gap"] is True
    assert others.drift() == {}
    for field in ("on_hand", "reserved", "version"):
        assert others.with_message(TOPIC, AMS, **{field: 99}).drift() == DRIFT
    assert others.without_message(TOPIC, AMS).drift() == DRIFT


def test_where_nothing_is_missing_in_between_movements_add_up():
    whole = ledger(10, 7, 5, by=("shop", "shop", "shop"))
    assert whole.drift() == {}
    assert whole.with_message(TOPIC, AMS, sum_on_hand=6).drift() == DRIFT


def test_a_movement_that_was_lost_is_seen_where_none_is_left_out():
    others = ledger(10, 7, 5, by=("shop", "erp", "shop"))
    assert others.with_policies(ERP).drift() == DRIFT


def test_a_row_that_is_deleted_is_no_ghost_though_its_movements_do_not_add_up():
    gone = ledger(10, 7, None, by=("shop", "erp"))
    assert gone.topics[TOPIC].messages[AMS]["sum_on_hand"] == 3
    assert gone.drift() == {}
    assert gone.with_policies(ERP).drift() == DRIFT
    assert gone.with_message(TOPIC, AMS, version=4).drift() == DRIFT, "it is not told as deleted"


@pytest.mark.parametrize("policy", [ERP, ECHO])
def test_a_warehouse_that_a_ledger_is_no_longer_about_is_history(policy):
    told = ledger(10)
    assert told.with_policies(replace(policy, warehouses=("lon",))).drift() == {}
    assert told.without_message(TOPIC, AMS).with_policies(policy).drift() == DRIFT
