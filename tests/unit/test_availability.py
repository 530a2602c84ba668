"""The one formula of what a channel may promise."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.availability import (
    SHARE_UNITS,
    ChannelKind,
    ChannelPolicy,
    Status,
    availability,
    share_units,
)
from inventory.errors import PolicyError
from inventory.stock import StockLevel

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
    warehouses=st.none() | st.frozensets(st.sampled_from(WAREHOUSES)),
    buffer=units,
    share=st.integers(0, SHARE_UNITS),
    low_stock_threshold=st.integers(0, 100),
)


def sold(stock, policy):
    return [
        level
        for warehouse, level in stock.items()
        if policy.sells_from(warehouse) and not level.deleted
    ]


@given(stock, policies)
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


@given(stock, policies)
def test_status_follows_from_the_number(stock, policy):
    found = availability(stock, policy)
    if found is not None:
        assert (found.status is Status.OUT_OF_STOCK) == (found.available == 0)
        assert (found.status is Status.IN_STOCK) == (
            found.available > max(0, policy.low_stock_threshold)
        )


@given(stock, policies)
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
