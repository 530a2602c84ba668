"""Migrations, on a real Postgres."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest

from inventory.errors import MigrationError
from sql.migrate import migrate, pending
from tests.database import as_role, fresh_database

pytestmark = pytest.mark.integration

MIGRATIONS = [
    "0001_schema",
    "0002_stock_version",
    "0003_channels",
    "0004_capture",
    "0005_policy",
    "0006_attribution",
    "0007_operations",
    "0008_deletions_seen",
    "0009_reservations",
    "0010_flash",
    "0011_saga",
]


class TestMigrate:
    def test_applies_in_order_and_a_second_time_does_nothing(self, empty):
        said = []
        assert pending(empty) == MIGRATIONS
        assert migrate(empty, said.append) == MIGRATIONS
        assert said == [f"applied {migration}" for migration in MIGRATIONS]
        assert pending(empty) == []
        assert migrate(empty, said.append) == []
        assert len(said) == len(MIGRATIONS)

    def test_twice_at_once_applies_each_once(self, empty):
        start = Barrier(3)

        def run() -> list[str]:
            start.wait(timeout=10)
            return migrate(empty)

        with ThreadPoolExecutor(3) as pool:
            runs = [run.result() for run in [pool.submit(run) for _ in range(3)]]
        assert sorted(runs) == [[], [], MIGRATIONS]

    def test_two_databases_at_once_share_the_roles(self, settings, stack):
        with (
            fresh_database(settings) as one,
            fresh_database(settings) as two,
            ThreadPoolExecutor(2) as pool,
        ):
            assert list(pool.map(migrate, [one, two])) == [MIGRATIONS, MIGRATIONS]

    def test_a_failed_migration_leaves_no_trace(self, empty):
        with psycopg.connect(empty, autocommit=True) as connection:
            # Its first statements succeed, and what comes before it has created much.
            connection.execute("CREATE PUBLICATION stockwire")
            with pytest.raises(MigrationError, match=r"Migration 0004_capture failed.*already"):
                migrate(empty)
            assert pending(empty) == MIGRATIONS[3:]
            beats = connection.execute("SELECT count(*) FROM inventory.heartbeat").fetchone()[0]
            assert beats == 0
            connection.execute("DROP PUBLICATION stockwire")
            assert migrate(empty) == MIGRATIONS[3:]

    def test_a_server_that_does_not_answer_is_named_plainly(self):
        with pytest.raises(MigrationError, match=r"Cannot connect to Postgres.*STOCKWIRE_POSTGRES"):
            migrate("postgresql://postgres@127.0.0.1:1/stockwire")

    def test_a_role_that_may_not_migrate_is_told_so(self, empty, database):
        with pytest.raises(MigrationError, match=r"permission denied"):
            migrate(as_role(empty, "stockwire_app"))


@pytest.fixture
def unversioned(empty: str) -> Iterator[psycopg.Connection]:
    """A database as it was before policies had versions, with policies in it."""
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("CREATE PUBLICATION stockwire")
        with pytest.raises(MigrationError, match="0004_capture"):
            migrate(empty)
        connection.execute("DROP PUBLICATION stockwire")
        connection.execute(
            "INSERT INTO inventory.channel_sku (channel, sku) VALUES ('web', 'A'), ('web', 'B')"
        )
        yield connection


class TestMigration:
    def test_rows_that_were_there_get_versions_and_downstream_is_told(self, empty, unversioned):
        before = unversioned.execute("SELECT clock_timestamp()").fetchone()[0]
        assert migrate(empty) == MIGRATIONS[3:]
        rows = unversioned.execute(
            "SELECT version, updated_at FROM inventory.channel "
            "UNION ALL SELECT version, updated_at FROM inventory.channel_sku"
        ).fetchall()
        assert len({version for version, _ in rows}) == 4 + 2
        assert all(version % 2 == 0 and updated_at > before for version, updated_at in rows)

    def test_a_list_of_warehouses_that_means_nothing_is_named(self, empty, unversioned):
        unversioned.execute("UPDATE inventory.channel SET warehouses = '{}' WHERE name = 'web'")
        with pytest.raises(MigrationError, match=r"0005_policy failed.*Channel web sells from no"):
            migrate(empty)
        unversioned.execute("UPDATE inventory.channel SET warehouses = null WHERE name = 'web'")
        assert migrate(empty) == MIGRATIONS[4:]
