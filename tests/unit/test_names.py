"""Names that end up in Redis keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import InvalidEvent
from inventory.names import check_sku, check_warehouse, stock_key
from stockwire_client.names import availability_key, escape_sku, unescape_sku

skus = st.text(min_size=1, max_size=200) | st.text(alphabet="%{}257BDbda:", min_size=1, max_size=30)


def hash_tag(key: str) -> str:
    """The part of a key that Redis Cluster hashes, by the rule of its specification."""
    start = key.find("{")
    if start >= 0:
        end = key.find("}", start + 1)
        if end > start + 1:
            return key[start + 1 : end]
    return key


@given(skus)
def test_escaping_is_undone(sku):
    assert unescape_sku(escape_sku(sku)) == sku


@given(skus, skus)
def test_different_skus_have_different_keys(one, other):
    assert (one == other) == (stock_key(one) == stock_key(other))
    assert (one == other) == (availability_key(one) == availability_key(other))


@given(skus)
def test_the_hash_tag_is_the_whole_sku(sku):
    assert hash_tag(stock_key(sku)) == hash_tag(availability_key(sku)) == escape_sku(sku)


def test_ordinary_skus_stay_readable():
    assert availability_key("SKU-1") == "availability:{SKU-1}"
    assert stock_key('50% {off} "x"') == 'stock:{50%25 %7Boff%7D "x"}'


@pytest.mark.parametrize("sku", ["x", "x" * 200, "🎈" * 200, " ", ":"])
def test_a_sku_has_1_to_200_characters(sku):
    assert check_sku(sku) == sku


@pytest.mark.parametrize("sku", ["", "x" * 201])
def test_other_skus_are_refused(sku):
    with pytest.raises(InvalidEvent, match=f"sku has {len(sku)} characters"):
        check_sku(sku)


@pytest.mark.parametrize("warehouse", ["x", "x" * 64, "a:b", " "])
def test_a_warehouse_has_1_to_64_characters(warehouse):
    assert check_warehouse(warehouse) == warehouse


@pytest.mark.parametrize("warehouse", ["", "x" * 65, ":revision", "a|b", "|"])
def test_other_warehouses_are_refused(warehouse):
    with pytest.raises(InvalidEvent, match="warehouse"):
        check_warehouse(warehouse)
