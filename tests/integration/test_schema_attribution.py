"""Who changed stock and why: from the statement, else from the transaction, else from nobody."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import IsolationLevel, errors, sql

from tests.database import as_role
from tests.polling import eventually

pytestmark = pytest.mark.integration

COLUMNS = ("reason", "reference", "caused_by")
NOBODY = ("unattributed", None, None)
ORDER = ("order", "ORD-1", "shop")


def say(connection: psycopg.Connection, **settings: str) -> None:
    """`SET LOCAL stockwire.… = …`."""
    for name, value in settings.items():
        connection.execute("SELECT set_config('stockwire.' || %s, %s, true)", [name, value])


def attribution(connection: psycopg.Connection, sku: str = "A") -> tuple[str | None, ...]:
    row = connection.execute(
        "SELECT reason, reference, caused_by FROM inventory.stock WHERE sku = %s", [sku]
    ).fetchone()
    assert row is not None
    return row


@pytest.fixture
def app(connection: psycopg.Connection, database: str) -> Iterator[psycopg.Connection]:
    """The application, and a row that an order has changed last."""
    with psycopg.connect(as_role(database, "stockwire_app"), autocommit=True) as app:
        app.execute(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand, reason, reference, caused_by) "
            "VALUES ('A', 'W1', 10, 'order', 'ORD-1', 'shop')"
        )
        yield app


class TestUpdate:
    def test_direct_sql_does_not_pass_for_the_last_order(self, app):
        app.execute("UPDATE inventory.stock SET on_hand = 9")
        assert attribution(app) == NOBODY

    def test_what_the_statement_names_is_taken_also_when_it_is_the_same_as_before(self, app):
        app.execute(
            "UPDATE inventory.stock SET on_hand = 9, reason = 'order', reference = 'ORD-1', "
            "caused_by = 'shop'"
        )
        assert attribution(app) == ORDER

    @pytest.mark.parametrize("column", COLUMNS)
    def test_naming_one_keeps_none_of_the_others(self, app, column):
        change = sql.SQL("UPDATE inventory.stock SET {0} = {0}").format(sql.Identifier(column))
        app.execute(change)
        assert attribution(app) == tuple(
            old if name == column else nobody
            for name, old, nobody in zip(COLUMNS, ORDER, NOBODY, strict=True)
        )

    def test_what_the_transaction_says_fills_in_what_the_statement_does_not(self, app):
        with app.transaction():
            say(app, reason="shipment", reference="SHP-7", caused_by="wms")
            app.execute("UPDATE inventory.stock SET on_hand = 9")
            assert attribution(app) == ("shipment", "SHP-7", "wms")
            app.execute("UPDATE inventory.stock SET on_hand = 8, reference = 'SHP-8'")
            assert attribution(app) == ("shipment", "SHP-8", "wms")

    def test_what_a_transaction_says_ends_with_it(self, app):
        with app.transaction():
            say(app, reason="shipment", reference="SHP-7", caused_by="wms")
        app.execute("UPDATE inventory.stock SET on_hand = 9")
        app.execute("INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES ('B', 'W1', 1)")
        assert attribution(app) == attribution(app, "B") == NOBODY

    def test_two_statements_of_a_transaction_each_speak_for_themselves(self, app):
        with app.transaction():
            app.execute("UPDATE inventory.stock SET reason = 'count', reference = 'CNT-1'")
            app.execute("UPDATE inventory.stock SET on_hand = 9")
        assert attribution(app) == NOBODY

    def test_a_column_can_be_named_null_or_default(self, app):
        with app.transaction():
            say(app, reason="shipment", reference="SHP-7")
            app.execute("UPDATE inventory.stock SET reason = DEFAULT, reference = NULL")
        assert attribution(app) == ("shipment", None, None)

    def test_every_row_of_a_statement_alike(self, app):
        app.execute(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand, reason) "
            "VALUES ('B', 'W1', 1, 'count'), ('C', 'W1', 1, 'order')"
        )
        app.execute("UPDATE inventory.stock SET reason = 'count'")
        assert {attribution(app, sku) for sku in "ABC"} == {("count", None, None)}
        app.execute("UPDATE inventory.stock SET on_hand = 0")
        assert {attribution(app, sku) for sku in "ABC"} == {NOBODY}

    @pytest.mark.parametrize("chosen", ["version + 7", "version - 1", "7", "NULL"])
    def test_a_statement_that_chooses_a_version_keeps_nothing(self, app, chosen):
        app.execute(sql.SQL("UPDATE inventory.stock SET version = {}").format(sql.SQL(chosen)))
        assert attribution(app) == NOBODY

    def test_a_statement_that_waited_does_not_take_over_what_it_waited_for(self, app, database):
        with (
            psycopg.connect(database, autocommit=True) as waiter,
            ThreadPoolExecutor(1) as pool,
            psycopg.connect(database) as holder,
        ):
            holder.execute("UPDATE inventory.stock SET reason = 'count', reference = 'CNT-1'")
            waiting = pool.submit(
                waiter.execute, "UPDATE inventory.stock SET on_hand = 1, caused_by = 'shop'"
            )
            blocked_by = "SELECT pg_blocking_pids(%s)"
            eventually(lambda: app.execute(blocked_by, [waiter.info.backend_pid]).fetchone()[0])
            holder.commit()
            waiting.result(timeout=10)
        assert attribution(app) == ("unattributed", None, "shop")

    @pytest.mark.parametrize("column", COLUMNS)
    def test_what_the_transaction_says_is_as_short_as_what_a_statement_says(self, app, column):
        with app.transaction():
            say(app, **{column: "x" * 1000})
            app.execute("UPDATE inventory.stock SET on_hand = 9")
        with app.transaction(force_rollback=True):
            say(app, **{column: "x" * 1001})
            with pytest.raises(errors.CheckViolation, match=f"stock_{column}_check"):
                app.execute("UPDATE inventory.stock SET on_hand = 8")


class TestOtherStatements:
    def test_an_insert(self, app):
        with app.transaction():
            say(app, reason="receipt", caused_by="wms")
            app.execute(
                "INSERT INTO inventory.stock (sku, warehouse, on_hand, caused_by) "
                "VALUES ('B', 'W1', 1, 'erp')"
            )
        assert attribution(app, "B") == ("receipt", None, "erp")

    def test_a_copy(self, app):
        with app.transaction():
            say(app, reason="import")
            with app.cursor().copy(
                "COPY inventory.stock (sku, warehouse, on_hand, reference) FROM STDIN"
            ) as copy:
                copy.write_row(("B", "W1", 1, "FILE-1"))
        assert attribution(app, "B") == ("import", "FILE-1", None)

    def test_an_upsert(self, app):
        upsert = (
            "INSERT INTO inventory.stock (sku, warehouse, on_hand, reason, reference) "
            "VALUES ('A', 'W1', 1, 'order', 'ORD-1') ON CONFLICT (sku, warehouse) DO UPDATE SET "
        )
        app.execute(upsert + "on_hand = EXCLUDED.on_hand, reference = EXCLUDED.reference")
        # What the insert would have said is not said by the update.
        assert attribution(app) == ("unattributed", "ORD-1", None)
        with app.transaction():
            say(app, reference="SHP-7", caused_by="wms")
            app.execute(upsert + "on_hand = EXCLUDED.on_hand, caused_by = EXCLUDED.caused_by")
        assert attribution(app) == ("unattributed", "SHP-7", "wms")

    def test_a_merge(self, app):
        app.execute(
            "MERGE INTO inventory.stock s USING (VALUES ('A'), ('B')) AS new (sku) "
            "ON s.sku = new.sku "
            "WHEN MATCHED THEN UPDATE SET on_hand = 1, reason = 'order' "
            "WHEN NOT MATCHED THEN INSERT (sku, warehouse, on_hand, reference) "
            "VALUES (new.sku, 'W1', 1, 'MRG-1')"
        )
        assert attribution(app, "A") == ("order", None, None)
        assert attribution(app, "B") == ("unattributed", "MRG-1", None)

    def test_a_merge_names_for_each_branch_what_any_of_them_names(self, app):
        """Postgres does not tell them apart; the migration says to name all three in each."""
        app.execute(
            "MERGE INTO inventory.stock s USING (VALUES ('A')) AS new (sku) ON s.sku = new.sku "
            "WHEN MATCHED AND on_hand > 100 THEN UPDATE SET reason = 'count' "
            "WHEN MATCHED THEN UPDATE SET on_hand = 1"
        )
        assert attribution(app) == ("order", None, None)

    def test_a_changed_key(self, app):
        app.execute("UPDATE inventory.stock SET sku = 'B', reason = 'relabel'")
        assert attribution(app, "B") == ("relabel", None, None)

    @pytest.mark.parametrize("isolation", list(IsolationLevel)[2:], ids=lambda level: level.name)
    @pytest.mark.parametrize("arrival", ["insert", "key change"])
    def test_drawing_another_version_keeps_it(self, app, connection, isolation, arrival):
        """Above READ COMMITTED a row that arrives at a key is always written a second time."""
        app.isolation_level = isolation
        arrive = {
            "insert": "INSERT INTO inventory.stock (sku, warehouse, on_hand, reason) "
            "VALUES ('B', 'W1', 1, 'relabel')",
            "key change": "UPDATE inventory.stock SET sku = 'B', reason = 'relabel'",
        }
        with app.transaction():
            say(app, reference="REL-1")
            drawn = "SELECT last_value FROM inventory.stock_version"
            before = connection.execute(drawn).fetchone()[0]
            app.execute(arrive[arrival])
            assert connection.execute(drawn).fetchone()[0] == before + 4
        assert attribution(app, "B") == ("relabel", "REL-1", None)

    def test_drawing_another_version_after_a_wait_keeps_it(self, app, database):
        with (
            psycopg.connect(database, autocommit=True) as waiter,
            ThreadPoolExecutor(1) as pool,
            psycopg.connect(database) as holder,
        ):
            holder.execute("UPDATE inventory.stock SET on_hand = 1")
            waiting = pool.submit(
                waiter.execute,
                "INSERT INTO inventory.stock (sku, warehouse, on_hand, reason, reference) "
                "VALUES ('A', 'W1', 1, 'receipt', 'RCP-1')",
            )
            blocked_by = "SELECT pg_blocking_pids(%s)"
            eventually(lambda: app.execute(blocked_by, [waiter.info.backend_pid]).fetchone()[0])
            holder.execute("DELETE FROM inventory.stock")
            holder.commit()
            waiting.result(timeout=10)
        assert attribution(app) == ("receipt", "RCP-1", None)

    def test_a_removal_is_attributed_by_the_change_before_it(self, app):
        """The change event of the update has it; that of the delete has no row to carry it."""
        with app.transaction():
            said = app.execute(
                "UPDATE inventory.stock SET on_hand = 0, reason = 'discontinued' "
                "RETURNING reason, reference"
            ).fetchone()
            app.execute("DELETE FROM inventory.stock")
        assert said == ("discontinued", None)


def _columns(named: Mapping[str, str | None]) -> sql.Composable:
    return sql.SQL("").join(sql.SQL(", ") + sql.Identifier(name) for name in named)


def _values(named: Mapping[str, str | None]) -> sql.Composable:
    return sql.SQL("").join(sql.SQL(", ") + sql.Literal(value) for value in named.values())


def _assignments(named: Mapping[str, str | None]) -> sql.Composable:
    return sql.SQL("").join(
        sql.SQL(", {} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in named.items()
    )


STATEMENTS = {
    "update": "UPDATE inventory.stock SET on_hand = 1{assignments} WHERE sku = 'A'",
    "upsert": "INSERT INTO inventory.stock (sku, warehouse, on_hand{columns}) "
    "VALUES ('A', 'W1', 1{values}) "
    "ON CONFLICT (sku, warehouse) DO UPDATE SET on_hand = 2{assignments}",
    "merge": "MERGE INTO inventory.stock s USING (SELECT 'A' AS sku) new ON s.sku = new.sku "
    "WHEN MATCHED THEN UPDATE SET on_hand = 3{assignments} "
    "WHEN NOT MATCHED THEN INSERT (sku, warehouse, on_hand{columns}) "
    "VALUES ('A', 'W1', 1{values})",
    "replace": "DELETE FROM inventory.stock; "
    "INSERT INTO inventory.stock (sku, warehouse, on_hand{columns}) VALUES ('A', 'W1', 1{values})",
}

texts = st.sampled_from(["order", "unattributed", "x", "ü"])


def test_whatever_comes_before_it_a_change_is_attributed_to_itself(app):
    steps = st.lists(
        st.tuples(
            st.sampled_from(sorted(STATEMENTS)),
            st.dictionaries(st.sampled_from(COLUMNS), st.none() | texts),
            st.dictionaries(st.sampled_from(COLUMNS), texts | st.just("")),
        ),
        min_size=1,
        max_size=8,
    )

    @given(steps)
    @examples(max_examples=100, deadline=None)
    def check(steps):
        for kind, named, said in steps:
            statement = sql.SQL(STATEMENTS[kind]).format(
                columns=_columns(named), values=_values(named), assignments=_assignments(named)
            )
            with app.transaction():
                say(app, **said)
                app.execute(statement)
            assert attribution(app) == tuple(
                named[name] if name in named else said.get(name) or nobody
                for name, nobody in zip(COLUMNS, NOBODY, strict=True)
            )

    check()
