from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.workload import Kind, WorkloadPlan

plans = st.builds(
    WorkloadPlan,
    seed=st.integers(0, 1_000_000),
    skus=st.integers(1, 50),
    warehouses=st.integers(1, 4),
    zipf=st.floats(0, 2),
    hot_share=st.floats(0, 1),
)


def take(plan: WorkloadPlan, count: int, lane: int = 0):
    return list(islice(plan.transactions(lane), count))


def sku_share(plan: WorkloadPlan, sku: str) -> float:
    skus = Counter(line.sku for t in take(plan, 4_000) if t.kind is Kind.ORDER for line in t.lines)
    return skus[sku] / skus.total()


@given(plans)
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_plan(plan):
    assert take(plan, 300) == take(plan, 300)


def test_seeds_and_lanes_differ():
    plan = WorkloadPlan(seed=1)
    assert take(plan, 50) != take(WorkloadPlan(seed=2), 50)
    assert take(plan, 50) != take(plan, 50, lane=1)
    references = {t.reference for t in take(plan, 500)}
    assert references.isdisjoint(t.reference for t in take(plan, 500, lane=1))


@given(plans)
@settings(max_examples=20)
def test_lines_are_distinct_rows_of_the_catalogue_in_key_order(plan):
    skus = {f"SKU-{n:05}" for n in range(1, plan.skus + 1)}
    warehouses = {f"WH-{n}" for n in range(1, plan.warehouses + 1)}
    for transaction in take(plan, 800):
        rows = [(line.sku, line.warehouse) for line in transaction.lines]
        assert 1 <= len(rows) <= 5
        assert rows == sorted(set(rows))
        assert {sku for sku, _ in rows} <= skus
        assert {warehouse for _, warehouse in rows} <= warehouses


@given(plans)
@settings(max_examples=20)
def test_each_kind_moves_what_it_says(plan):
    orders = {}
    for transaction in take(plan, 1_500):
        lines = transaction.lines
        match transaction.kind:
            case Kind.ORDER:
                assert all(line.on_hand == 0 and line.reserved > 0 for line in lines)
                orders[transaction.reference] = lines
            case Kind.SHIPMENT | Kind.CANCELLATION:
                ordered = orders.pop(transaction.reference)  # fails if closed twice
                shipped = transaction.kind is Kind.SHIPMENT
                assert [line.reserved for line in lines] == [-line.reserved for line in ordered]
                assert [line.on_hand for line in lines] == [
                    -line.reserved if shipped else 0 for line in ordered
                ]
            case Kind.RECEIPT:
                assert [line.on_hand > 0 and line.reserved == 0 for line in lines] == [True]
            case Kind.TRANSFER:
                giver, taker = lines
                assert giver.sku == taker.sku
                assert giver.on_hand == -taker.on_hand != 0
            case Kind.COUNT:
                assert [line.on_hand != 0 and line.reserved == 0 for line in lines] == [True]


def test_all_kinds_occur_and_open_orders_do_not_pile_up():
    kinds = Counter(t.kind for t in take(WorkloadPlan(), 20_000))
    assert set(kinds) == set(Kind)
    assert kinds[Kind.ORDER] - kinds[Kind.SHIPMENT] - kinds[Kind.CANCELLATION] < 500


def test_popular_skus_sell_more():
    skewed = WorkloadPlan(skus=1_000, zipf=1.0)
    assert sku_share(skewed, skewed.hot_sku) == pytest.approx(1 / 7.5, abs=0.03)
    even = WorkloadPlan(skus=1_000, zipf=0.0)
    assert sku_share(even, even.hot_sku) < 0.01


def test_in_a_flash_sale_most_lines_go_to_one_sku():
    plan = WorkloadPlan(hot_share=0.8)
    # An order's lines for one row are one line, so its share is a little less than asked for.
    assert 0.65 < sku_share(plan, plan.hot_sku) < 0.9


def test_what_is_sold_is_delivered_again():
    sold, delivered = 0, 0
    for transaction in take(WorkloadPlan(hot_share=0.5), 30_000):
        units = sum(line.on_hand for line in transaction.lines)
        if transaction.kind is Kind.SHIPMENT:
            sold -= units
        elif transaction.kind is Kind.RECEIPT:
            delivered += units
    assert delivered == pytest.approx(sold, rel=0.35)


@pytest.mark.parametrize(
    "sizes", [{"skus": 0}, {"warehouses": 0}, {"zipf": -1}, {"hot_share": 1.1}, {"hot_share": -0.1}]
)
def test_a_size_that_makes_no_plan_is_refused(sizes):
    with pytest.raises(ValueError, match=r"workload needs|must be"):
        WorkloadPlan(**sizes)
