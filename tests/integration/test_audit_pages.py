"""Postgres as the auditor reads it, while the schema is changed under it."""

from contextlib import closing

import psycopg
import pytest

from audit.continuous.judge import versions_of
from audit.continuous.pages import Pages
from inventory.policy import ChannelPolicy
from tests.database import as_role

pytestmark = pytest.mark.integration


def test_the_last_versions_that_were_drawn(connection: psycopg.Connection, database: str):
    with closing(Pages(database)) as pages:
        before = pages.drawn()
        row = connection.execute(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES ('DRAWN', 'W1', 7)"
            " RETURNING version"
        ).fetchone()
        connection.execute(
            "INSERT INTO inventory.channel_sku (channel, sku, buffer) VALUES ('web', 'DRAWN', 1)"
        )
        assert row is not None
        assert pages.drawn() == (row[0], before.policy + 2)
        assert row[0] > before.stock


@pytest.mark.parametrize(
    ("come", "go"),
    [
        (
            "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES ('A', 'W2', 20)",
            "DELETE FROM inventory.stock WHERE warehouse = 'W2'",
        ),
        (
            "INSERT INTO inventory.channel_sku (channel, sku, buffer) VALUES ('web', 'A', 1)",
            "DELETE FROM inventory.channel_sku WHERE sku = 'A'",
        ),
    ],
)
def test_what_came_and_went_is_another_version(connection, database, come, go):
    """Found by chaos: such a SKU's topics were called drift while they were being told."""
    connection.execute(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand) "
        "VALUES ('A', 'W1', 7), ('B', 'W1', 1)"
    )
    with closing(Pages(as_role(database, "stockwire_app"))) as pages:
        seen = [pages.of(["A", "B"])]
        for _ in range(2):
            connection.execute(come)
            connection.execute(go)
            seen.append(pages.of(["A", "B"]))
    assert seen[0].stock == seen[1].stock == seen[2].stock
    assert len({versions_of(moment, "A") for moment in seen}) == 3
    assert len({versions_of(moment, "B") for moment in seen}) == 1


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
