"""Where Debezium puts a SKU's changes; `tests/integration/test_connect_routing.py` asks it."""

import pytest

from connectors.routing import partition_of

#: As `io.debezium.util.MurmurHash3` of Debezium 3.7.0 hashes them, without the sign.
HASHES = {
    "SKU-00001": 1694358828,
    "A": 418649432,
    "0123456789abcdef": 26898387,
    "naïve ☃ 漢字 🎈": 908697100,
    "HEAL {%s}|é": 1917908289,
}


@pytest.mark.parametrize("sku", HASHES)
@pytest.mark.parametrize("partitions", [1, 6, 7, 2**31])
def test_the_partition_is_the_rest_of_debeziums_hash(sku: str, partitions: int):
    assert partition_of(sku, partitions) == HASHES[sku] % partitions
