"""Postgres as the auditor reads it, while the schema is changed under it."""

from contextlib import closing

import psycopg
import pytest

from audit.continuous.pages import Pages
from inventory.policy import ChannelPolicy

pytestmark = pytest.mark.integration


def test_ddl_does_not_end_the_reading(connection: psycopg.Connection, database: str):
    connection.execute(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES ('A', 'W1', 7)"
    )

    def read(pages: Pages) -> tuple[int, tuple[ChannelPolicy, ...]]:
        stock = pages.page("", 10).stock
        assert pages.of(["A"]).stock.levels == stock.levels
        assert pages.known(["A"]) == {"A"}
        pages.stockless("", 10)
        return stock.levels["A"]["W1"].on_hand, pages.policies()

    with closing(Pages(database)) as pages:
        # So often that psycopg would prepare its statements by now.
        before = [read(pages) for _ in range(10)]
        connection.execute("ALTER TABLE inventory.stock ADD COLUMN shelf text")
        connection.execute("ALTER TABLE inventory.stock ALTER COLUMN on_hand TYPE bigint")
        try:
            assert read(pages) == before[0]
        finally:
            connection.execute("ALTER TABLE inventory.stock ALTER COLUMN on_hand TYPE integer")
            connection.execute("ALTER TABLE inventory.stock DROP COLUMN shelf")
