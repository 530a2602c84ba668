"""The database's own guarantees, on a real Postgres."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import IsolationLevel, errors

from compose.embedded.postgres import wheel_files
from inventory.availability import ChannelKind
from inventory.errors import MigrationError
from inventory.topics import channel_topic
from sql.migrate import migrate, pending
from tests.database import as_role, fresh_database
from tests.polling import eventually

pytestmark = pytest.mark.integration

MIGRATIONS = ["0001_schema", "0002_stock_version", "0003_channels", "0004_capture"]
CAPTURED = ["channel", "channel_sku", "debezium_signal", "heartbeat", "outbox", "stock"]


@pytest.fixture
def empty(stack, settings) -> Iterator[str]:
    with fresh_database(settings) as conninfo:
        yield conninfo


@pytest.fixture(scope="module")
def database(stack, settings) -> Iterator[str]:
    with fresh_database(settings) as conninfo:
        migrate(conninfo)
        with psycopg.connect(conninfo) as connection:
            connection.execute(
                "INSERT INTO inventory.warehouse VALUES ('W1', 'One'), ('W2', 'Two')"
            )
        yield conninfo


@pytest.fixture
def connection(database) -> Iterator[psycopg.Connection]:
    """A connection that commits each statement, on a database without stock."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DELETE FROM inventory.stock")
        yield connection


def insert(connection, sku="A", warehouse="W1") -> int:
    return connection.execute(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, 10) "
        "RETURNING version",
        [sku, warehouse],
    ).fetchone()[0]


def update(connection, sku="A") -> int:
    return connection.execute(
        "UPDATE inventory.stock SET on_hand = on_hand + 1 WHERE sku = %s RETURNING version", [sku]
    ).fetchone()[0]


def delete(connection, sku="A") -> int:
    """Delete the row, and return the version that the delete counts as."""
    return connection.execute(
        "DELETE FROM inventory.stock WHERE sku = %s RETURNING version + 1", [sku]
    ).fetchone()[0]


def version_of(connection, sku="A") -> int:
    return connection.execute(
        "SELECT version FROM inventory.stock WHERE sku = %s", [sku]
    ).fetchone()[0]


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
            # The last statements of the last migration fail, after much has been created.
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


class TestVersion:
    def test_rises_with_every_write_and_is_even(self, connection):
        versions = [insert(connection), update(connection), update(connection)]
        connection.execute("UPDATE inventory.stock SET on_hand = on_hand")
        versions.append(version_of(connection))
        versions.append(delete(connection))
        versions.append(insert(connection))
        assert versions == sorted(set(versions))
        assert [version % 2 for version in versions] == [0, 0, 0, 0, 1, 0]

    def test_rises_across_connections(self, connection, database):
        with psycopg.connect(database, autocommit=True) as other:
            versions = [insert(connection), update(other), update(connection), update(other)]
        assert versions == sorted(set(versions))

    def test_a_statement_cannot_choose_it(self, connection):
        first = insert(connection, "A")
        chosen = connection.execute(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand, version) "
            "VALUES ('B', 'W1', 1, 1) RETURNING version"
        ).fetchone()[0]
        assert chosen > first
        connection.execute("UPDATE inventory.stock SET version = 3")
        assert version_of(connection, "A") > first
        assert version_of(connection, "B") > chosen

    def test_an_upsert_raises_it(self, connection):
        first = insert(connection)
        second = connection.execute(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES ('A', 'W1', 1) "
            "ON CONFLICT (sku, warehouse) DO UPDATE SET on_hand = 1 RETURNING version"
        ).fetchone()[0]
        assert second > first

    def test_a_changed_key_is_a_delete_and_a_newer_row(self, connection):
        left = insert(connection, "A") + 1
        gone = insert(connection, "B") and delete(connection, "B")
        connection.execute("UPDATE inventory.stock SET sku = 'B'")
        assert version_of(connection, "B") > max(left, gone)
        assert insert(connection, "A") > left

    def test_optimistic_locking_lets_one_of_two_writers_through(self, connection, database):
        expected = insert(connection)
        start = Barrier(2)

        def write(_: int) -> int:
            with psycopg.connect(database, autocommit=True) as writer:
                start.wait(timeout=10)
                return writer.execute(
                    "UPDATE inventory.stock SET on_hand = on_hand - 1 "
                    "WHERE sku = 'A' AND version = %(expected)s",
                    {"expected": expected},
                ).rowcount

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(write, range(2))) == [0, 1]

    def test_updated_at_is_the_clock_and_not_the_start_of_the_transaction(self, connection):
        insert(connection)
        with connection.transaction():
            connection.execute("SELECT now()")
            update(connection)
            later = connection.execute("SELECT updated_at > now() FROM inventory.stock").fetchone()[
                0
            ]
        assert later

    @pytest.mark.parametrize("isolation", list(IsolationLevel), ids=lambda level: level.name)
    @pytest.mark.parametrize("holder_has", ["updated the row", "inserted the row"])
    @pytest.mark.parametrize("arrival", ["insert", "key change"])
    def test_a_row_that_waited_for_a_delete_is_newer_than_it(
        self, connection, database, isolation, holder_has, arrival
    ):
        """DESIGN §5: a version drawn before the wait would be older than the delete."""
        if holder_has == "updated the row":
            insert(connection, "A")
        if arrival == "key change":
            insert(connection, "B")
        with (
            psycopg.connect(database, autocommit=True) as waiter,
            ThreadPoolExecutor(1) as pool,
            psycopg.connect(database) as holder,  # left first, so that nobody waits for it
        ):
            waiter.isolation_level = isolation
            update(holder) if holder_has == "updated the row" else insert(holder)

            def arrive() -> None:
                try:
                    with waiter.transaction():
                        if arrival == "insert":
                            insert(waiter, "A")
                        else:
                            waiter.execute("UPDATE inventory.stock SET sku = 'A' WHERE sku = 'B'")
                except errors.SerializationFailure:
                    # Above READ COMMITTED callers must expect it; what counts is what is committed.
                    assert isolation > IsolationLevel.READ_COMMITTED
                    arrive()

            arriving = pool.submit(arrive)
            blocked_by = "SELECT pg_blocking_pids(%s)"
            eventually(
                lambda: connection.execute(blocked_by, [waiter.info.backend_pid]).fetchone()[0]
            )
            update(holder)
            deleted = delete(holder)
            holder.commit()
            arriving.result(timeout=10)
        assert version_of(connection) > deleted

    def test_survives_dump_and_restore(self, connection, database, empty):
        insert(connection, "A")
        insert(connection, "B")
        update(connection, "A")
        deleted = delete(connection, "A")
        dump = subprocess.run([_binary("pg_dump"), database], check=True, capture_output=True)
        subprocess.run(
            [_binary("psql"), "-q", "-v", "ON_ERROR_STOP=1", empty],
            input=dump.stdout,
            check=True,
            capture_output=True,
        )
        with psycopg.connect(empty, autocommit=True) as restored:
            assert version_of(restored, "B") == version_of(connection, "B")
            assert insert(restored, "A") > deleted
            assert update(restored, "B") > deleted
        assert pending(empty) == []

    def test_only_rises_whatever_is_done(self, connection):
        keys = st.sampled_from([("A", "W1"), ("A", "W2"), ("B", "W1")])
        operations = st.one_of(
            st.tuples(st.sampled_from(["insert", "upsert", "update", "delete"]), keys),
            st.tuples(st.just("move"), keys, keys),
        )
        highest: dict[tuple[str, str], int] = {}
        present: dict[tuple[str, str], int] = {}

        @given(st.lists(st.tuples(operations, st.booleans()), min_size=1, max_size=12))
        @examples(max_examples=60, deadline=None)
        def check(steps):
            for operation, keep in steps:
                with connection.transaction(force_rollback=not keep):
                    connection.execute(*_statement(*operation))
                after = {
                    (sku, warehouse): version
                    for sku, warehouse, version in connection.execute(
                        "SELECT sku, warehouse, version FROM inventory.stock"
                    )
                }
                for key, version in after.items():
                    if present.get(key) != version:
                        assert version > highest.get(key, 0)
                        assert version % 2 == 0
                        highest[key] = version
                for key in present.keys() - after.keys():
                    highest[key] = present[key] + 1
                present.clear()
                present.update(after)

        check()
        assert len(highest) == 3


def _statement(operation, key, target=None):
    values = "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, 1) ON CONFLICT"
    where = "WHERE (sku, warehouse) = (%s, %s)"
    match operation:
        case "insert":
            return f"{values} DO NOTHING", key
        case "upsert":
            return f"{values} (sku, warehouse) DO UPDATE SET on_hand = 2", key
        case "update":
            return f"UPDATE inventory.stock SET reserved = 1 {where}", key
        case "delete":
            return f"DELETE FROM inventory.stock {where}", key
        case "move":
            free = "NOT EXISTS (SELECT FROM inventory.stock WHERE (sku, warehouse) = (%s, %s))"
            return (
                f"UPDATE inventory.stock SET sku = %s, warehouse = %s {where} AND {free}",
                (*target, *key, *target),
            )
    raise AssertionError(operation)


def _binary(name: str) -> Path:
    package, _, _ = wheel_files()
    return package / "bin" / name


class TestTables:
    def test_quantities_are_not_negative(self, connection):
        insert(connection)
        for column in ("on_hand", "reserved"):
            with pytest.raises(errors.CheckViolation, match="quantities_not_negative"):
                connection.execute(f"UPDATE inventory.stock SET {column} = -1")

    def test_a_warehouse_must_exist(self, connection):
        with pytest.raises(errors.ForeignKeyViolation):
            insert(connection, "A", "nowhere")

    @pytest.mark.parametrize("sku", ["", "x" * 300, "SKU {1}: 'ü' 100%"])
    def test_any_sku_is_taken_for_the_pipeline_to_judge(self, connection, sku):
        assert insert(connection, sku)

    def test_the_default_channels(self, connection):
        channels = connection.execute(
            "SELECT name, kind, topic, warehouses, buffer, share::text, low_stock_threshold "
            "FROM inventory.channel ORDER BY name"
        ).fetchall()
        assert channels == [
            (name, kind.value, channel_topic(name), None, 0, "1.0000", 5)
            for name, kind in [
                ("app", ChannelKind.AVAILABILITY),
                ("erp", ChannelKind.MOVEMENT),
                ("web", ChannelKind.AVAILABILITY),
                ("wms", ChannelKind.LEVEL),
            ]
        ]

    @pytest.mark.parametrize(
        "change",
        [
            "name = 'as_of'",
            "name = 'a:b'",
            "kind = 'other'",
            "topic = 'no spaces'",
            "buffer = -1",
            "share = 1.5",
            "share = -0.1",
            "low_stock_threshold = -1",
            "warehouses = ARRAY['W1', NULL]",
        ],
    )
    def test_a_policy_that_means_nothing_is_refused(self, connection, change):
        with pytest.raises(errors.CheckViolation):
            connection.execute(f"UPDATE inventory.channel SET {change} WHERE name = 'web'")

    def test_a_heartbeat_is_one_row(self, connection):
        with pytest.raises(errors.CheckViolation):
            connection.execute("INSERT INTO inventory.heartbeat VALUES (2, now())")


class TestCapture:
    def test_the_publication_has_the_captured_tables_and_no_truncates(self, connection):
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = 'stockwire' "
            "ORDER BY tablename"
        ).fetchall()
        assert tables == [("inventory", table) for table in CAPTURED]
        published = connection.execute(
            "SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate "
            "FROM pg_publication WHERE pubname = 'stockwire'"
        ).fetchone()
        assert published == (False, True, True, True, False)

    def test_changes_of_stock_and_policy_carry_the_whole_row_before(self, connection):
        full = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'inventory'::regnamespace "
            "AND relkind = 'r' AND relreplident = 'f' ORDER BY relname"
        ).fetchall()
        assert full == [("channel",), ("channel_sku",), ("stock",)]

    @pytest.mark.parametrize("table", CAPTURED)
    def test_truncate_is_refused_to_the_owner_as_well(self, connection, table):
        with pytest.raises(
            errors.FeatureNotSupported, match=r"TRUNCATE of inventory\..*use DELETE"
        ):
            connection.execute(f"TRUNCATE inventory.{table} CASCADE")

    def test_truncate_cannot_come_in_through_a_foreign_key(self, connection):
        with pytest.raises(errors.FeatureNotSupported, match=r"TRUNCATE of inventory\.stock"):
            connection.execute("TRUNCATE inventory.warehouse CASCADE")


ROW = "(sku, warehouse, on_hand) VALUES ('R', 'W1', 1)"
EVENT = "(aggregatetype, aggregateid, type, payload) VALUES ('order', '1', 'OrderPlaced', '{}')"


class TestRoles:
    def test_attributes(self, connection):
        roles = connection.execute(
            "SELECT rolname, rolcanlogin, rolreplication, rolsuper, rolcreatedb, rolcreaterole, "
            "rolbypassrls FROM pg_roles WHERE rolname LIKE 'stockwire%' ORDER BY rolname"
        ).fetchall()
        assert roles == [
            ("stockwire_app", True, False, False, False, False, False),
            ("stockwire_debezium", True, True, False, False, False, False),
        ]

    @pytest.mark.parametrize(
        ("role", "statement"),
        [
            *(("stockwire_debezium", f"SELECT * FROM inventory.{table}") for table in CAPTURED),
            ("stockwire_debezium", "INSERT INTO inventory.debezium_signal VALUES ('1', 'x', '{}')"),
            ("stockwire_debezium", "UPDATE inventory.heartbeat SET beat_at = now()"),
            (
                "stockwire_debezium",
                "INSERT INTO inventory.heartbeat VALUES (1, now()) "
                "ON CONFLICT (id) DO UPDATE SET beat_at = EXCLUDED.beat_at",
            ),
            ("stockwire_app", f"INSERT INTO inventory.stock {ROW}"),
            ("stockwire_app", "UPDATE inventory.stock SET on_hand = 0"),
            ("stockwire_app", "DELETE FROM inventory.stock"),
            ("stockwire_app", "UPDATE inventory.stock SET sku = 'S'"),
            ("stockwire_app", "INSERT INTO inventory.warehouse VALUES ('W9', 'Nine')"),
            ("stockwire_app", "UPDATE inventory.channel SET buffer = 1"),
            ("stockwire_app", "INSERT INTO inventory.channel_sku VALUES ('web', 'A')"),
            ("stockwire_app", f"INSERT INTO inventory.outbox {EVENT}"),
            ("stockwire_app", "DELETE FROM inventory.outbox"),
        ],
    )
    def test_may(self, connection, database, role, statement):
        insert(connection)
        with psycopg.connect(as_role(database, role)) as restricted:
            restricted.execute(statement)
            restricted.rollback()

    @pytest.mark.parametrize(
        ("role", "statement"),
        [
            ("stockwire_debezium", "SELECT * FROM inventory.warehouse"),
            ("stockwire_debezium", "SELECT * FROM inventory.stock_deletion"),
            ("stockwire_debezium", f"INSERT INTO inventory.stock {ROW}"),
            ("stockwire_debezium", "UPDATE inventory.stock SET on_hand = 0"),
            ("stockwire_debezium", "DELETE FROM inventory.stock"),
            ("stockwire_debezium", "TRUNCATE inventory.stock"),
            ("stockwire_debezium", "UPDATE inventory.channel SET buffer = 1"),
            ("stockwire_debezium", f"INSERT INTO inventory.outbox {EVENT}"),
            ("stockwire_debezium", "DELETE FROM inventory.outbox"),
            ("stockwire_debezium", "DELETE FROM inventory.heartbeat"),
            ("stockwire_debezium", "DELETE FROM inventory.debezium_signal"),
            ("stockwire_debezium", "ALTER PUBLICATION stockwire DROP TABLE inventory.stock"),
            ("stockwire_debezium", "CREATE TABLE inventory.mine ()"),
            ("stockwire_debezium", "SELECT nextval('inventory.stock_version')"),
            ("stockwire_app", "TRUNCATE inventory.stock"),
            ("stockwire_app", "TRUNCATE inventory.outbox"),
            ("stockwire_app", "UPDATE inventory.outbox SET type = 'x'"),
            ("stockwire_app", "UPDATE inventory.heartbeat SET beat_at = now()"),
            ("stockwire_app", "INSERT INTO inventory.debezium_signal VALUES ('1', 'x', '{}')"),
            ("stockwire_app", "DELETE FROM inventory.stock_deletion"),
            ("stockwire_app", "SELECT setval('inventory.stock_version', 2)"),
            ("stockwire_app", "CREATE TABLE inventory.mine ()"),
            ("stockwire_app", "ALTER TABLE inventory.stock DISABLE TRIGGER stamp"),
            ("stockwire_app", "SET session_replication_role = replica"),
            (
                "stockwire_app",
                "CREATE TEMP TABLE t (LIKE inventory.stock); CREATE TRIGGER forged AFTER DELETE "
                "ON t FOR EACH ROW EXECUTE FUNCTION inventory.mark_stock_deletion()",
            ),
        ],
    )
    def test_may_not(self, database, role, statement):
        with (
            psycopg.connect(as_role(database, role)) as restricted,
            pytest.raises(errors.InsufficientPrivilege),
        ):
            restricted.execute(statement)
