"""The one formula of what a channel may promise."""

import dataclasses
import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.availability import availability, crossing, promises, ring_fences, waterfall
from inventory.errors import PolicyError
from inventory.policy import (
    SHARE_UNITS,
    ChannelKind,
    ChannelOverride,
    ChannelPolicy,
    share_units,
    with_override,
)
from inventory.stock import StockLevel
from stockwire_client.contract import AlertKind, Status

WAREHOUSES = ("ams", "lon", "nyc")
units = st.integers(0, 100_000)
levels = st.builds(
    StockLevel,
    on_hand=units,
    reserved=units,
    safety_stock=units,
    incoming=units,
    incoming_at=st.none() | st.integers(1, 2**42),
    version=st.integers(1, 2**40),
    committed_us=st.integers(1, 2**51),
    deleted=st.booleans(),
)
stock = st.dictionaries(st.sampled_from(WAREHOUSES), levels)
policies = st.builds(
    ChannelPolicy,
    name=st.just("web"),
    kind=st.just(ChannelKind.AVAILABILITY),
    topic=st.just("stock.web.v1"),
    warehouses=st.none() | st.lists(st.sampled_from(WAREHOUSES), unique=True).map(tuple),
    buffer=units,
    share=st.integers(0, SHARE_UNITS),
    low_stock_threshold=st.integers(0, 100),
    low_stock_hysteresis=st.integers(0, 20),
    priority=st.integers(0, 3),
    max_per_order=st.none() | st.integers(1, 50),
    backorder_limit=st.integers(0, 50),
    blocked=st.booleans(),
)
not_blocked = policies.map(lambda policy: dataclasses.replace(policy, blocked=False))
statuses = st.none() | st.sampled_from(Status)
overrides = st.builds(
    ChannelOverride,
    version=st.just(2),
    committed_us=st.just(1),
    buffer=st.none() | units,
    share=st.none() | st.integers(0, SHARE_UNITS),
    max_per_order=st.none() | st.integers(1, 50),
    backorder_limit=st.none() | st.integers(0, 50),
    ring_fence=st.integers(0, 100_000),
    blocked=st.booleans(),
    deleted=st.booleans(),
)


@st.composite
def shops(draw: st.DrawFn):
    """Several channels with policies of their own, and overrides of a SKU on some of them."""
    names = draw(st.lists(st.sampled_from(("app", "b2b", "shop", "web")), unique=True, min_size=1))
    channels = tuple(dataclasses.replace(draw(policies), name=name) for name in sorted(names))
    own = draw(st.dictionaries(st.sampled_from((*names, "gone")), overrides))
    return channels, own


def sold(stock, policy):
    return [
        level
        for warehouse, level in stock.items()
        if policy.sells_from(warehouse) and not level.deleted
    ]


@given(stock, not_blocked)
def test_it_is_the_formula_of_the_design(stock, policy):
    found = availability(stock, policy)
    if found is not None:
        free = sum(max(0, x.on_hand - x.reserved - x.safety_stock) for x in sold(stock, policy))
        exact = Fraction(policy.share, SHARE_UNITS) * (free - policy.buffer)
        assert found.available == max(0, exact.__floor__())


@given(stock, policies)
def test_never_negative_and_never_more_than_is_free(stock, policy):
    found = availability(stock, policy)
    if found is not None:
        assert 0 <= found.available <= sum(level.free for level in sold(stock, policy))


@given(stock, policies, st.sampled_from(WAREHOUSES), st.integers(1, 1000))
def test_more_on_hand_is_never_less_available(stock, policy, warehouse, more):
    if warehouse not in stock:
        return
    level = stock[warehouse]
    more_stock = {**stock, warehouse: level._replace(on_hand=level.on_hand + more)}
    before, after = availability(stock, policy), availability(more_stock, policy)
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert after.available >= before.available


@given(stock, policies)
def test_not_listed_without_a_row_in_the_channels_warehouses(stock, policy):
    assert (availability(stock, policy) is None) == (not sold(stock, policy))


@given(stock, shops(), statuses)
def test_never_more_than_physical_stock_and_the_backorder_limit(stock, shop, previous):
    channels, own = shop
    told = promises(stock, own, channels, dict.fromkeys(own, previous) if previous else {})
    for policy in channels:
        found = told[policy.name]
        if found is None:
            continue
        physical = sum(level.on_hand for level in sold(stock, policy))
        limit = with_override(policy, own.get(policy.name)).backorder_limit
        assert found.available >= 0
        assert found.backorderable >= 0
        assert found.available <= physical
        assert found.available + found.backorderable <= physical + limit
        assert found.order_limit <= max(found.available, found.backorderable)


@given(stock, shops())
def test_what_others_have_ring_fenced_is_never_sold(stock, shop):
    """Whatever one channel sells, every other still finds its whole ring-fence."""
    channels, own = shop
    held = ring_fences(stock, own, channels)
    free = {code: level.free for code, level in stock.items() if not level.deleted}
    for code, units in free.items():
        assert sum(fenced.get(code, 0) for fenced in held.values()) <= units
    for channel, fenced in held.items():
        assert sum(fenced.values()) <= own[channel].ring_fence
    for policy in channels:
        found = promises(stock, own, channels, {})[policy.name]
        others = sum(
            units
            for name, fenced in held.items()
            if name != policy.name
            for units in fenced.values()
        )
        assert found is None or found.available + others <= sum(free.values())


@given(stock, shops())
def test_channels_that_sell_only_their_ring_fences_never_oversell_together(stock, shop):
    channels, own = shop
    only = tuple(dataclasses.replace(policy, share=0) for policy in channels)
    fences = {name: override._replace(share=None) for name, override in own.items()}
    told = promises(stock, fences, only, {})
    free = sum(level.free for level in stock.values() if not level.deleted)
    assert sum(found.available for found in told.values() if found is not None) <= free


@given(stock, shops())
def test_a_ring_fence_is_all_there_for_its_channel_while_stock_lasts(stock, shop):
    channels, own = shop
    held = ring_fences(stock, own, channels)
    for policy in channels:
        found = promises(stock, own, channels, {})[policy.name]
        override = own.get(policy.name)
        blocked = policy.blocked or (override and override.blocked and not override.deleted)
        if found is not None and not blocked:
            assert found.available >= sum(held.get(policy.name, {}).values())


@given(stock, shops(), st.sampled_from(WAREHOUSES), st.integers(1, 1000))
def test_more_on_hand_is_never_less_available_on_any_channel(stock, shop, warehouse, more):
    if warehouse not in stock:
        return
    channels, own = shop
    level = stock[warehouse]
    fuller = {**stock, warehouse: level._replace(on_hand=level.on_hand + more)}
    before, after = promises(stock, own, channels, {}), promises(fuller, own, channels, {})
    for policy in channels:
        was, now = before[policy.name], after[policy.name]
        assert (was is None) == (now is None)
        if was is not None and now is not None:
            assert now.available >= was.available


@given(stock, shops())
def test_the_waterfall_adds_up(stock, shop):
    channels, own = shop
    held = ring_fences(stock, own, channels)
    for policy in channels:
        override = own.get(policy.name)
        found = availability(stock, policy, override, held)
        steps = waterfall(stock, with_override(policy, override), held)
        if steps is None or found is None:
            assert steps is found
            continue
        assert steps.pool >= 0
        assert steps.buffered <= steps.pool
        assert steps.shared <= steps.buffered
        if found.status not in (Status.CHANNEL_BLOCKED, Status.SKU_BLOCKED):
            assert found.available == steps.available


def on_hand(*units):
    return {
        code: StockLevel(number, 0, 0, 0, None, 2, 1)
        for code, number in zip(WAREHOUSES, units, strict=False)
    }


def channel(name, **fields):
    return ChannelPolicy(name, ChannelKind.AVAILABILITY, f"stock.{name}.v1", **fields)


def fence(units):
    return ChannelOverride(2, 1, ring_fence=units)


class TestRingFences:
    def test_it_is_taken_where_its_channel_sells_first(self):
        web = channel("web", warehouses=("lon", "ams"))
        assert ring_fences(on_hand(10, 4), {"web": fence(6)}, [web]) == {
            "web": {"lon": 4, "ams": 2}
        }

    def test_it_takes_nothing_from_warehouses_that_its_channel_does_not_sell_from(self):
        app, web = channel("app", warehouses=("ams",)), channel("web", warehouses=("lon",))
        told = promises(on_hand(10, 4), {"web": fence(100)}, [app, web], {})
        assert (told["app"].available, told["web"].available) == (10, 4)

    def test_when_stock_is_short_the_lower_priority_number_is_served_first(self):
        app, web = channel("app"), channel("web", priority=1)
        held = ring_fences(on_hand(10), {"app": fence(7), "web": fence(7)}, [app, web])
        assert held == {"web": {"ams": 7}, "app": {"ams": 3}}

    def test_buffer_and_share_are_of_what_is_left(self):
        app, web = channel("app"), channel("web", buffer=4, share=5_000)
        told = promises(on_hand(30), {"web": fence(6), "app": fence(4)}, [app, web], {})
        assert told["web"].available == 6 + (30 - 6 - 4 - 4) // 2
        assert told["app"].available == 30 - 6


class TestStatus:
    @pytest.mark.parametrize(
        ("available", "previous", "status"),
        [
            (6, None, Status.IN_STOCK),
            (5, None, Status.LOW_STOCK),
            (6, Status.IN_STOCK, Status.IN_STOCK),
            (5, Status.IN_STOCK, Status.LOW_STOCK),
            (7, Status.LOW_STOCK, Status.LOW_STOCK),
            (8, Status.LOW_STOCK, Status.IN_STOCK),
            (7, Status.OUT_OF_STOCK, Status.LOW_STOCK),
            (7, Status.BACKORDER, Status.LOW_STOCK),
            (8, Status.OUT_OF_STOCK, Status.IN_STOCK),
            (7, Status.SKU_BLOCKED, Status.IN_STOCK),
            (0, Status.IN_STOCK, Status.OUT_OF_STOCK),
        ],
    )
    def test_hysteresis(self, available, previous, status):
        found = availability(on_hand(available), channel("web"), previous=previous)
        assert found.status is status

    @given(st.lists(st.sampled_from((5, 6, 7)), min_size=1))
    def test_a_sku_that_hovers_does_not_flap(self, numbers):
        told = []
        for number in numbers:
            previous = told[-1] if told else None
            told.append(availability(on_hand(number), channel("web"), previous=previous).status)
        assert sum(a is not b for a, b in itertools.pairwise(told)) <= 1

    def test_blocked_is_an_answer_of_its_own(self):
        web = channel("web", blocked=True, backorder_limit=5)
        nothing = (0, None, 0, 0)
        found = availability(on_hand(10), web)
        assert found.status is Status.CHANNEL_BLOCKED
        assert (
            found.available,
            found.restock_at,
            found.backorderable,
            found.order_limit,
        ) == nothing
        one = availability(on_hand(10), channel("web"), fence(3)._replace(blocked=True))
        assert one.status is Status.SKU_BLOCKED
        assert (one.available, one.restock_at, one.backorderable, one.order_limit) == nothing
        assert availability({}, web) is None

    def test_backorder_is_what_the_limit_leaves(self):
        level = StockLevel(3, 7, 0, 0, None, 2, 1)
        found = availability({"ams": level}, channel("web", backorder_limit=10))
        assert (found.available, found.status) == (0, Status.BACKORDER)
        assert (found.backorderable, found.order_limit) == (6, 6)
        spent = availability({"ams": level}, channel("web", backorder_limit=4))
        assert (spent.status, spent.backorderable) == (Status.OUT_OF_STOCK, 0)

    def test_an_order_takes_no_more_than_is_allowed(self):
        web = channel("web", max_per_order=3)
        assert availability(on_hand(10), web).order_limit == 3
        assert availability(on_hand(2), web).order_limit == 2


@pytest.mark.parametrize(
    ("previous", "status", "alert"),
    [
        (None, Status.OUT_OF_STOCK, None),
        (Status.IN_STOCK, Status.LOW_STOCK, AlertKind.LOW_STOCK),
        (Status.LOW_STOCK, Status.LOW_STOCK, None),
        (Status.IN_STOCK, Status.OUT_OF_STOCK, AlertKind.OUT_OF_STOCK),
        (Status.LOW_STOCK, Status.BACKORDER, AlertKind.OUT_OF_STOCK),
        (Status.OUT_OF_STOCK, Status.BACKORDER, None),
        (Status.OUT_OF_STOCK, Status.LOW_STOCK, AlertKind.BACK_IN_STOCK),
        (Status.BACKORDER, Status.IN_STOCK, AlertKind.BACK_IN_STOCK),
        (Status.LOW_STOCK, Status.IN_STOCK, None),
        (Status.IN_STOCK, Status.SKU_BLOCKED, None),
        (Status.CHANNEL_BLOCKED, Status.OUT_OF_STOCK, None),
    ],
)
def test_a_crossing_is_seen_once_in_each_direction(previous, status, alert):
    assert crossing(previous, status) is alert


@given(stock, not_blocked)
def test_restock_is_the_first_arrival_that_brings_something(stock, policy):
    found = availability(stock, policy)
    if found is not None:
        arrivals = [x.incoming_at for x in sold(stock, policy) if x.incoming and x.incoming_at]
        assert found.restock_at == min(arrivals, default=None)


@pytest.mark.parametrize(
    ("share", "exact"), [("1", 10_000), ("0.0001", 1), ("0", 0), ("0.5", 5000)]
)
def test_shares_are_exact(share, exact):
    assert share_units(share) == exact


@pytest.mark.parametrize("share", ["1.0001", "-0.1", "0.00001"])
def test_other_shares_are_refused(share):
    with pytest.raises(PolicyError, match="not between 0 and 1"):
        share_units(share)
