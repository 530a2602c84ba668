"""An audit knows overrides, ring-fences, limits and hysteresis, and sees what is not so."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.report import Key
from inventory.policy import ChannelOverride
from inventory.stock import StockLevel
from stockwire_client.contract import Status
from tests.audit_world import POLICIES, World, world
from tests.histories import Change, histories

APP, ERP, WEB, WMS = POLICIES
S = Key("S")
NOW = 1_795_235_627_000_000

overrides = st.builds(
    ChannelOverride,
    version=st.just(2),
    committed_us=st.just(NOW),
    buffer=st.none() | st.integers(0, 5),
    share=st.none() | st.integers(0, 10_000),
    low_stock_threshold=st.none() | st.integers(0, 9),
    low_stock_hysteresis=st.none() | st.integers(0, 5),
    max_per_order=st.none() | st.integers(1, 5),
    backorder_limit=st.none() | st.integers(0, 9),
    ring_fence=st.integers(0, 9),
    blocked=st.booleans(),
)


def stock(*on_hand: int) -> list[Change]:
    """The row in `ams` with these quantities one after the other."""
    return [
        ("ams", StockLevel(n, 0, 0, 0, None, 2 * i, NOW + i))
        for i, n in enumerate(on_hand, start=1)
    ]


@given(histories(), st.dictionaries(st.sampled_from(["web", "app"]), overrides))
def test_there_is_no_drift_with_any_overrides(
    history: list[Change], own: dict[str, ChannelOverride]
):
    assert world(history, overrides=own).drift() == {}


def test_an_override_that_redis_does_not_know_as_it_is():
    sound = world(stock(20), overrides={"web": ChannelOverride(2, NOW, buffer=3)})
    assert sound.drift() == {}
    of_web = Key("S", "web")
    for field, value in (("buffer", 4), ("version", 4), ("ring_fence", 1), ("blocked", True)):
        assert sound.with_override(of_web, **{field: value}).drift() == {"redis overrides": 1}
    ghost = sound.with_override(Key("S", "app"), version=2)
    assert ghost.report().examples() == [("redis overrides", "S", "app", None, {"version": 2})]
    lost = replace(sound, projection=replace(sound.projection, overrides={}))
    assert lost.drift() == {"redis overrides": 1}


def test_the_overrides_of_a_sku_that_is_dead_lettered_are_not_expected():
    sound = world(stock(20))
    long = {"x" * 201: {"web": ChannelOverride(2, NOW)}}
    assert replace(sound, stock=replace(sound.stock, overrides=long)).drift() == {}


def test_an_override_that_was_not_applied():
    sound = world(stock(20))
    own = {"S": {"web": ChannelOverride(2, NOW, buffer=3)}}
    late = replace(sound, stock=replace(sound.stock, overrides=own))
    assert late.drift() == {"redis overrides": 1, "redis web": 1, "topic stock.web.v1": 1}


def test_a_ring_fence_is_taken_from_the_others():
    fenced = world(stock(20), overrides={"app": ChannelOverride(2, NOW, ring_fence=8)})
    assert fenced.drift() == {}
    assert fenced.projection.channels["web"][S]["available"] == 12
    assert fenced.with_told("web", S, available=20).drift() == {"redis web": 1}


def test_limits_of_orders_and_backorders():
    sold_out = world(stock(0), policies=(replace(WEB, backorder_limit=5, max_per_order=3),))
    assert sold_out.drift() == {}
    told = sold_out.projection.channels["web"][S]
    assert (told["status"], told["backorderable"], told["order_limit"]) == ("backorder", 5, 3)
    for field in ("backorderable", "order_limit"):
        assert sold_out.with_told("web", S, **{field: 4}).drift() == {"redis web": 1}
        wrong = sold_out.with_message("stock.web.v1", S, **{field: 4})
        assert wrong.drift() == {"topic stock.web.v1": 1}


@pytest.mark.parametrize(
    ("history", "status"),
    [
        (stock(9, 6), Status.IN_STOCK),  # fell to 6: never was low
        (stock(9, 4, 6), Status.LOW_STOCK),  # rose to 6: still low
        (stock(9, 4, 8), Status.IN_STOCK),
        (stock(9, 0, 7), Status.LOW_STOCK),
    ],
)
def test_between_the_threshold_and_the_hysteresis_either_status_is_right(
    history: list[Change], status: Status
):
    told = world(history, policies=(WEB,))
    assert told.projection.channels["web"][S]["status"] == status
    assert told.drift() == {}


def both(said: World, status: Status) -> World:
    """Redis and the topic say this status alike."""
    return said.with_told("web", S, status=status).with_message("stock.web.v1", S, status=status)


@pytest.mark.parametrize(
    ("on_hand", "stale"),
    [
        (8, Status.LOW_STOCK),
        (8, Status.OUT_OF_STOCK),
        (5, Status.IN_STOCK),
        (6, Status.OUT_OF_STOCK),
        (6, Status.BACKORDER),
        (0, Status.LOW_STOCK),
        (6, Status.CHANNEL_BLOCKED),
    ],
)
def test_a_status_that_would_not_stay_is_drift(on_hand: int, stale: Status):
    sound = world(stock(on_hand), policies=(WEB,))
    assert both(sound, stale).drift() == {"redis web": 1, "topic stock.web.v1": 1}


def test_redis_and_the_topic_must_say_the_same_status_in_between():
    low = world(stock(4, 6), policies=(WEB,))
    torn = low.with_message("stock.web.v1", S, status="in_stock")
    assert torn.drift() == {"topic stock.web.v1": 1}


def test_a_status_in_between_is_not_held_against_the_topic_when_redis_has_lost_the_sku():
    assert world(stock(4, 6), policies=(WEB,)).without_told("web").drift() == {"redis web": 1}


@pytest.mark.parametrize("edited", [replace(WEB, buffer=1), replace(WEB, blocked=True)])
def test_an_edit_that_nobody_was_told_of(edited):
    late = world(stock(20)).with_policies(APP, ERP, edited, WMS)
    assert late.drift() == {"redis web": 1, "topic stock.web.v1": 1}


def test_a_channel_that_was_removed_is_not_looked_at():
    assert world(stock(20)).with_policies(ERP, WMS).drift() == {}


def test_a_level_channel_is_told_of_its_own_warehouses_only():
    sound = world([*stock(20), ("nyc", StockLevel(7, 0, 0, 0, None, 8, NOW))])
    assert sound.topics["stock.wms.v1"].messages.keys() == {Key("S", "ams")}
    assert sound.drift() == {}
    for warehouses in (None, ("lon",)):  # one row is missing then, or one is too many
        edited = sound.with_policies(APP, ERP, WEB, replace(WMS, warehouses=warehouses))
        assert edited.drift() == {"topic stock.wms.v1": 1}
