"""Ghosts go where Debezium puts a SKU's changes: our function against its own routing."""

import psycopg
import pytest

from connectors.routing import partition_of
from inventory.settings import Settings
from inventory.topics import STOCK
from tests.e2e.whole_topic import Kept, read_topic
from tests.polling import eventually

pytestmark = pytest.mark.integration

#: All remainders of the length, with and without characters of several bytes.
SKUS = [f"ROUTE-{n:03} {'é☃漢🎈'[n % 4] * (n % 5)}{'x' * (n % 40)}" for n in range(240)]


def test_debezium_routes_as_we_compute_it(stack: object, settings: Settings) -> None:
    with psycopg.connect(settings.conninfo(), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand)"
            " SELECT sku, 'T-1', 1 FROM unnest(%(skus)s::text[]) AS s (sku)",
            {"skus": SKUS},
        )
        try:
            found = eventually(lambda: captured(settings), 60)
        finally:
            connection.execute(
                "DELETE FROM inventory.stock WHERE sku = ANY (%(skus)s)", {"skus": SKUS}
            )
    assert found == {sku: partition_of(sku, settings.partitions) for sku in SKUS}
    assert len(set(found.values())) == settings.partitions


def captured(settings: Settings) -> dict[str, int] | None:
    """The partitions of these SKUs, once all are there."""
    wanted = set(SKUS)
    inserted = (each for each in read_topic(settings.kafka_bootstrap, STOCK) if is_insert(each))
    found = {each.json["after"]["sku"]: each.partition for each in inserted}
    found = {sku: partition for sku, partition in found.items() if sku in wanted}
    return found if found.keys() == wanted else None


def is_insert(message: Kept) -> bool:
    return message.value is not None and message.json["op"] == "c"
