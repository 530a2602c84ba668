"""Versions of stock rows, on a real Postgres."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import IsolationLevel, errors

from compose.embedded.postgres import wheel_files
from sql.migrate import pending
from tests.polling import eventually

pytestmark = pytest.mark.integration

CAPTURED = ["channel", "channel_sku", "debezium_signal", "heartbeat", "outbox", "stock"]


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
    @pytest.mark.parametrize("departure", ["delete", "key change"])
    def test_a_row_that_waited_for_a_delete_is_newer_than_it(
        self, connection, database, isolation, holder_has, arrival, departure
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
            deleted = update(holder) + 1
            if departure == "delete":
                delete(holder)
            else:
                holder.execute("UPDATE inventory.stock SET sku = 'C' WHERE sku = 'A'")
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
        every = [("A", "W1"), ("A", "W2"), ("B", "W1")]
        keys = st.sampled_from(every)
        operations = st.one_of(
            st.tuples(st.sampled_from(["insert", "upsert", "update", "delete"]), keys),
            st.tuples(st.just("move"), keys, keys),
        )
        highest: dict[tuple[str, str], int] = {}
        present: dict[tuple[str, str], int] = {}

        @given(st.lists(st.tuples(operations, st.booleans()), min_size=1, max_size=12))
        @example([(("insert", key), True) for key in every])
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


INSERT_NEW = """
    INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, 1)
    ON CONFLICT DO NOTHING"""
UPSERT = """
    INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, 1)
    ON CONFLICT (sku, warehouse) DO UPDATE SET on_hand = 2"""
RESERVE = "UPDATE inventory.stock SET reserved = 1 WHERE (sku, warehouse) = (%s, %s)"
REMOVE = "DELETE FROM inventory.stock WHERE (sku, warehouse) = (%s, %s)"
MOVE_TO_FREE_KEY = """
    UPDATE inventory.stock SET sku = %s, warehouse = %s WHERE (sku, warehouse) = (%s, %s)
    AND NOT EXISTS (SELECT FROM inventory.stock WHERE (sku, warehouse) = (%s, %s))"""


def _statement(operation, key, target=None):
    match operation:
        case "insert":
            return INSERT_NEW, key
        case "upsert":
            return UPSERT, key
        case "update":
            return RESERVE, key
        case "delete":
            return REMOVE, key
        case "move":
            return MOVE_TO_FREE_KEY, (*target, *key, *target)
    raise AssertionError(operation)


def _binary(name: str) -> Path:
    package, _, _ = wheel_files()
    return package / "bin" / name
