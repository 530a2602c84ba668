"""Policies: what may be edited, and versions that only rise, on a real Postgres."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString, NamedTuple

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import IsolationLevel, errors

from sql.queries import load_queries
from tests.database import as_role
from tests.polling import eventually

pytestmark = pytest.mark.integration

QUERIES = load_queries()


class Table(NamedTuple):
    """The statements on one row of a table of policies; each returns what it counts as."""

    insert: LiteralString
    update: LiteralString
    delete: LiteralString
    upsert: LiteralString
    versions: LiteralString


CHANNEL = Table(
    "INSERT INTO inventory.channel (name, kind, topic) VALUES ('x', 'availability', 'stock.x.v1') "
    "RETURNING version",
    "UPDATE inventory.channel SET buffer = buffer + 1 WHERE name = 'x' RETURNING version",
    "DELETE FROM inventory.channel WHERE name = 'x' RETURNING version + 1",
    "INSERT INTO inventory.channel (name, kind, topic) VALUES ('x', 'availability', 'stock.x.v1') "
    "ON CONFLICT (name) DO UPDATE SET buffer = 2 RETURNING version",
    "SELECT version FROM inventory.channel WHERE name = 'x'",
)
OVERRIDE = Table(
    "INSERT INTO inventory.channel_sku (channel, sku) VALUES ('web', 'A') RETURNING version",
    "UPDATE inventory.channel_sku SET ring_fence = ring_fence + 1 WHERE sku = 'A' "
    "RETURNING version",
    "DELETE FROM inventory.channel_sku WHERE sku = 'A' RETURNING version + 1",
    "INSERT INTO inventory.channel_sku (channel, sku) VALUES ('web', 'A') "
    "ON CONFLICT (channel, sku) DO UPDATE SET ring_fence = 2 RETURNING version",
    "SELECT version FROM inventory.channel_sku WHERE sku = 'A'",
)
#: A changed key is a delete at the old one.
LEAVE = "UPDATE inventory.channel_sku SET sku = 'C' WHERE sku = 'A'"
ARRIVE = "UPDATE inventory.channel_sku SET sku = 'A' WHERE sku = 'B'"
TABLES = pytest.mark.parametrize("table", [CHANNEL, OVERRIDE], ids=["channel", "channel_sku"])


def run(connection: psycopg.Connection, statement: LiteralString) -> int:
    """The version that a statement's row has."""
    row = connection.execute(statement).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def policies(database: str) -> Iterator[psycopg.Connection]:
    """The four default channels and no override."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DELETE FROM inventory.channel_sku")
        connection.execute("DELETE FROM inventory.channel WHERE name = 'x'")
        yield connection


class TestVersion:
    @TABLES
    def test_rises_with_every_write_and_is_even(self, policies, table):
        steps = (table.insert, table.update, table.upsert, table.delete, table.upsert, table.delete)
        versions = [run(policies, step) for step in steps]
        assert versions == sorted(set(versions))
        assert [version % 2 for version in versions] == [0, 0, 0, 1, 0, 1]

    def test_a_statement_cannot_choose_it(self, policies):
        first = run(policies, OVERRIDE.insert)
        policies.execute("UPDATE inventory.channel_sku SET version = 3")
        assert run(policies, OVERRIDE.versions) > first

    def test_a_changed_key_is_a_delete_and_a_newer_row(self, policies):
        gone = run(policies, OVERRIDE.insert) and run(policies, OVERRIDE.delete)
        left = 1 + run(
            policies,
            "INSERT INTO inventory.channel_sku (channel, sku) VALUES ('web', 'B') "
            "RETURNING version",
        )
        policies.execute("UPDATE inventory.channel_sku SET sku = 'A'")
        assert run(policies, OVERRIDE.versions) > max(left, gone)

    def test_overrides_go_with_their_channel_and_come_back_newer(self, policies):
        run(policies, CHANNEL.insert)
        insert: LiteralString = (
            "INSERT INTO inventory.channel_sku (channel, sku) VALUES ('x', 'A') RETURNING version"
        )
        first = run(policies, insert)
        deleted = run(policies, CHANNEL.delete)
        assert policies.execute(OVERRIDE.versions).fetchone() is None
        assert run(policies, CHANNEL.insert) > deleted
        assert run(policies, insert) > first + 1

    @pytest.mark.parametrize("isolation", list(IsolationLevel), ids=lambda level: level.name)
    @pytest.mark.parametrize("holder_has", ["updated the row", "inserted the row"])
    @pytest.mark.parametrize(
        ("table", "leave", "arrive_by"),
        [
            (CHANNEL, CHANNEL.delete, CHANNEL.insert),
            (OVERRIDE, OVERRIDE.delete, OVERRIDE.insert),
            (OVERRIDE, OVERRIDE.delete, ARRIVE),
            (OVERRIDE, LEAVE, OVERRIDE.insert),
        ],
        ids=["channel", "channel_sku", "channel_sku to the key", "channel_sku from the key"],
    )
    def test_a_row_that_waited_for_a_delete_is_newer_than_it(
        self, policies, database, table, isolation, holder_has, leave, arrive_by
    ):
        """A version drawn before the wait would be older than the delete, as for stock."""
        policies.execute("INSERT INTO inventory.channel_sku (channel, sku) VALUES ('web', 'B')")
        if holder_has == "updated the row":
            run(policies, table.insert)
        with (
            psycopg.connect(database, autocommit=True) as waiter,
            ThreadPoolExecutor(1) as pool,
            psycopg.connect(database) as holder,  # left first, so that nobody waits for it
        ):
            waiter.isolation_level = isolation
            run(holder, table.update if holder_has == "updated the row" else table.insert)

            def arrive() -> None:
                try:
                    with waiter.transaction():
                        waiter.execute(arrive_by)
                except errors.SerializationFailure:
                    assert isolation > IsolationLevel.READ_COMMITTED
                    arrive()

            arriving = pool.submit(arrive)
            blocked_by = "SELECT pg_blocking_pids(%s)"
            eventually(
                lambda: policies.execute(blocked_by, [waiter.info.backend_pid]).fetchone()[0]
            )
            deleted = run(holder, table.update) + 1
            holder.execute(leave)
            holder.commit()
            arriving.result(timeout=10)
        assert run(policies, table.versions) > deleted

    @TABLES
    def test_only_rises_whatever_is_done(self, policies, table):
        steps = st.lists(
            st.tuples(st.sampled_from([table.upsert, table.update, table.delete]), st.booleans()),
            min_size=1,
            max_size=12,
        )
        highest = 0

        @given(steps)
        @example([(table.upsert, True)])
        @examples(max_examples=40, deadline=None)
        def check(steps):
            nonlocal highest
            for statement, keep in steps:
                with policies.transaction(force_rollback=not keep):
                    row = policies.execute(statement).fetchone()
                if row is not None:
                    assert row[0] > highest
                    highest = row[0] if keep else highest

        check()


class TestEdits:
    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE inventory.channel SET name = 'y' WHERE name = 'x'",
            "UPDATE inventory.channel SET kind = 'level' WHERE name = 'x'",
            "UPDATE inventory.channel SET topic = 'stock.y.v1' WHERE name = 'x'",
        ],
    )
    def test_a_channel_stays_what_it_is(self, policies, change):
        run(policies, CHANNEL.insert)
        with pytest.raises(
            errors.FeatureNotSupported, match=r"channel x stay.*remove the channel and make a new"
        ):
            policies.execute(change)
        # Named, and the same: no change.
        policies.execute("UPDATE inventory.channel SET name = name, kind = kind, topic = topic")

    @pytest.mark.parametrize(
        ("warehouses", "complaint"),
        [
            ([], "Channel x sells from no warehouse; name some, or null for all"),
            (["W1", "W2", "W1"], r"Channel x names a warehouse twice in {W1,W2,W1}; name each"),
        ],
    )
    def test_a_list_of_warehouses_that_means_nothing_is_refused(
        self, policies, warehouses, complaint
    ):
        row = {"name": "x", "kind": "level", "topic": "stock.x.v1", "warehouses": warehouses}
        with pytest.raises(errors.CheckViolation, match=complaint):
            policies.execute(QUERIES["add_channel"], row)
        run(policies, CHANNEL.insert)
        with pytest.raises(errors.CheckViolation, match=complaint):
            policies.execute(
                "UPDATE inventory.channel SET warehouses = %s WHERE name = 'x'", [warehouses]
            )

    @pytest.mark.parametrize("kind", ["level", "movement"])
    def test_a_channel_of_single_changes_may_leave_out_its_own(self, policies, kind):
        policies.execute(
            "INSERT INTO inventory.channel (name, kind, topic, echo_of) "
            "VALUES ('x', %s, 'stock.x.v1', %s)",
            [kind, "x" * 1000],
        )
        with pytest.raises(errors.CheckViolation, match="echo_of"):
            policies.execute(
                "UPDATE inventory.channel SET echo_of = %s WHERE name = 'x'", ["x" * 1001]
            )

    def test_an_availability_channel_may_not(self, policies):
        with pytest.raises(errors.CheckViolation, match="channel_echo_not_of_availability"):
            policies.execute("UPDATE inventory.channel SET echo_of = 'web' WHERE name = 'web'")


POLICY_COLUMNS = (
    "name, kind, topic, warehouses, buffer, share, low_stock_threshold, low_stock_hysteresis, "
    "priority, max_per_order, backorder_limit, blocked, echo_of, version"
)
OVERRIDE_COLUMNS = (
    "channel, sku, buffer, share, low_stock_threshold, low_stock_hysteresis, max_per_order, "
    "backorder_limit, ring_fence, blocked, version"
)
STOCK_COLUMNS = (
    "sku, warehouse, on_hand, reserved, safety_stock, incoming, incoming_at, version, updated_at, "
    "reason, reference, caused_by"
)


def columns(cursor: psycopg.Cursor) -> str:
    return ", ".join(column.name for column in cursor.description or ())


class TestQueries:
    """As the application's role; the columns' order is what callers rely on."""

    @pytest.fixture
    def app(self, policies, database):
        with psycopg.connect(as_role(database, "stockwire_app"), autocommit=True) as connection:
            yield connection

    def test_a_channel_is_added_read_and_removed(self, app):
        row = {
            "name": "x",
            "kind": "level",
            "topic": "stock.x.v1",
            "warehouses": ["W2", "W1"],
        }
        version = app.execute(QUERIES["add_channel"], row).fetchone()[0]
        cursor = app.execute(QUERIES["channel_policies"])
        found = {policy[0]: policy for policy in cursor}
        assert columns(cursor) == POLICY_COLUMNS
        assert list(found) == ["app", "erp", "web", "wms", "x"]
        assert found["x"] == (
            *("x", "level", "stock.x.v1", ["W2", "W1"], 0, 1, 5, 2, 100),
            *(None, 0, False, None, version),
        )
        removed = app.execute(QUERIES["remove_channel"], {"name": "x"}).fetchone()
        assert removed == ("level", "stock.x.v1", version + 1)
        assert app.execute(QUERIES["remove_channel"], {"name": "x"}).fetchone() is None

    def test_overrides_of_all_and_of_one_sku(self, app):
        app.execute(
            "INSERT INTO inventory.channel_sku (channel, sku, ring_fence) "
            "VALUES ('web', 'A', 3), ('web', 'B', 4), ('app', 'A', 5)"
        )
        every = app.execute(QUERIES["channel_overrides"])
        assert columns(every) == OVERRIDE_COLUMNS
        rows = every.fetchall()
        assert {row[:2]: row[8] for row in rows} == {
            ("web", "A"): 3,
            ("web", "B"): 4,
            ("app", "A"): 5,
        }
        one = app.execute(QUERIES["channel_overrides_of_sku"], {"sku": "A"})
        assert columns(one) == OVERRIDE_COLUMNS
        assert one.fetchall() == sorted(row for row in rows if row[1] == "A")

    def test_the_stock_of_one_sku(self, app):
        app.execute("DELETE FROM inventory.stock")
        app.execute(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand, incoming_at) "
            "VALUES ('A', 'W2', 1, 'infinity'), ('A', 'W1', 2, now()), ('B', 'W1', 3, null)"
        )
        cursor = app.execute(QUERIES["stock_of_sku"], {"sku": "A"})
        assert columns(cursor) == STOCK_COLUMNS
        first, second = cursor.fetchall()
        assert first[:3] == ("A", "W1", 2)
        assert first[6] is not None
        assert second[:3] == ("A", "W2", 1)
        assert second[6] is None
