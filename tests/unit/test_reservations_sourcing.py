"""From which warehouses a basket is taken."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservations.basket import Line, Short, Sourcing
from reservations.sourcing import EXACT_WAREHOUSES, POLICIES, Missing, Part, Row, source

CODES = ["W1", "W2", "W3", "W4"]


def taken(policy, lines, stock, warehouses=()):
    """{SKU: {warehouse: units}} of what is taken."""
    rows = {
        sku: [Row(code, free, 2 * place) for place, (code, free) in enumerate(of.items())]
        for sku, of in stock.items()
    }
    parts = source([Line(*line) for line in lines], rows, policy, warehouses)
    if isinstance(parts, Missing):
        return parts
    assert parts == sorted(parts)
    assert all(part.version == 2 * [*stock[part.sku]].index(part.warehouse) for part in parts)
    found: dict[str, dict[str, int]] = {}
    for part in parts:
        found.setdefault(part.sku, {})[part.warehouse] = part.quantity
    return found


def test_there_is_a_policy_for_each_name():
    assert set(POLICIES) == set(Sourcing)


def test_priority_takes_from_the_first_that_has_any():
    stock = {"A": {"W2": 9, "W1": 2, "W3": 0}}
    assert taken(Sourcing.PRIORITY, [("A", 5)], stock) == {"A": {"W1": 2, "W2": 3}}
    assert taken(Sourcing.PRIORITY, [("A", 5)], stock, ("W3", "W2", "W1")) == {"A": {"W2": 5}}


def test_highest_stock_takes_from_where_most_is():
    stock = {"A": {"W1": 2, "W2": 3, "W3": 3}, "B": {"W1": 5, "W2": 1}}
    assert taken(Sourcing.HIGHEST_STOCK, [("A", 4), ("B", 1)], stock) == {
        "A": {"W2": 3, "W3": 1},
        "B": {"W1": 1},
    }
    assert taken(Sourcing.HIGHEST_STOCK, [("A", 1)], stock, ("W3", "W2")) == {"A": {"W3": 1}}


def test_fewest_splits_looks_at_the_whole_basket():
    stock = {"A": {"W1": 5, "W2": 5}, "B": {"W2": 1, "W3": 9}}
    assert taken(Sourcing.FEWEST_SPLITS, [("A", 5), ("B", 1)], stock) == {
        "A": {"W2": 5},
        "B": {"W2": 1},
    }


def test_fewest_splits_is_not_led_astray_by_the_warehouse_that_has_the_most():
    stock = {"A": {"W1": 2, "W2": 3}, "B": {"W1": 2, "W3": 3}}
    assert taken(Sourcing.FEWEST_SPLITS, [("A", 3), ("B", 3)], stock) == {
        "A": {"W2": 3},
        "B": {"W3": 3},
    }


def test_fewest_splits_keeps_a_line_together_where_one_warehouse_has_it_all():
    stock = {"A": {"W1": 4, "W2": 9}, "B": {"W1": 3}, "C": {"W2": 3}}
    assert taken(Sourcing.FEWEST_SPLITS, [("A", 4), ("B", 3), ("C", 3)], stock)["A"] == {"W1": 4}


def test_only_warehouses_that_are_asked_for_count():
    stock = {"A": {"W1": 4, "W2": 9}}
    assert taken(Sourcing.PRIORITY, [("A", 5)], stock, ("W1",)) == Missing(
        (Short("A", 5, 4),), unknown=False
    )
    assert taken(Sourcing.PRIORITY, [("A", 5)], stock, ("W3",)) == Missing(
        (Short("A", 5, 0),), unknown=True
    )


def test_what_is_missing_is_told_of_each_line():
    stock = {"A": {"W1": 4, "W2": -3}, "B": {"W1": 1}}
    assert taken(Sourcing.PRIORITY, [("A", 5), ("B", 1), ("X", 2)], stock) == Missing(
        (Short("A", 5, 4), Short("X", 2, 0)), unknown=True
    )


def test_many_warehouses_are_found_without_trying_every_set():
    stock = {f"S{n}": {f"W{n:02}": 1, f"W{n + 1:02}": 1} for n in range(0, 40, 2)}
    found = taken(Sourcing.FEWEST_SPLITS, [(sku, 2) for sku in stock], stock)
    assert found == stock


STOCK = st.dictionaries(
    st.sampled_from("ABC"),
    st.dictionaries(st.sampled_from(CODES), st.integers(-2, 9), min_size=1),
    min_size=1,
)


@given(
    stock=STOCK,
    wanted=st.dictionaries(st.sampled_from("ABC"), st.integers(1, 12), min_size=1),
    policy=st.sampled_from(list(Sourcing)),
    warehouses=st.lists(st.sampled_from(CODES), unique=True),
)
def test_all_or_nothing_and_never_more_than_there_is(stock, wanted, policy, warehouses):
    found = taken(policy, list(wanted.items()), stock, tuple(warehouses))
    usable = {
        sku: {
            code: free
            for code, free in of.items()
            if free > 0 and (not warehouses or code in warehouses)
        }
        for sku, of in stock.items()
    }
    enough = all(sum(usable.get(sku, {}).values()) >= units for sku, units in wanted.items())
    if not enough:
        assert isinstance(found, Missing)
        assert found.short == tuple(
            Short(sku, units, sum(usable.get(sku, {}).values()))
            for sku, units in wanted.items()
            if sum(usable.get(sku, {}).values()) < units
        )
        return
    assert {sku: sum(parts.values()) for sku, parts in found.items()} == wanted
    for sku, parts in found.items():
        assert all(0 < units <= usable[sku][code] for code, units in parts.items())
    if policy is Sourcing.FEWEST_SPLITS:
        used = {code for parts in found.values() for code in parts}
        fewest = next(
            size
            for size in range(1, len(CODES) + 1)
            for chosen in combinations(CODES, size)
            if all(
                sum(free for code, free in usable[sku].items() if code in chosen) >= units
                for sku, units in wanted.items()
            )
        )
        assert len(used) == fewest or fewest > EXACT_WAREHOUSES


@pytest.mark.parametrize("policy", list(Sourcing))
def test_a_part_names_the_version_that_was_seen(policy):
    parts = source([Line("A", 1)], {"A": [Row("W1", 3, 44)]}, policy)
    assert parts == [Part("A", "W1", 1, 44)]
