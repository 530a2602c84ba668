"""Tables, publication and roles: what the schema allows and what it refuses."""

import psycopg
import pytest
from psycopg import errors, sql

from inventory.policy import ChannelKind
from stockwire_client.names import channel_topic
from tests.database import as_role
from tests.integration.test_schema import CAPTURED, insert

pytestmark = pytest.mark.integration


class TestTables:
    def test_quantities_are_not_negative(self, connection):
        insert(connection)
        for column in ("on_hand", "reserved"):
            with pytest.raises(errors.CheckViolation, match="quantities_not_negative"):
                connection.execute(
                    sql.SQL("UPDATE inventory.stock SET {} = -1").format(sql.Identifier(column))
                )

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
            "UPDATE inventory.channel SET buffer = -1 WHERE name = 'web'",
            "UPDATE inventory.channel SET share = 1.5 WHERE name = 'web'",
            "UPDATE inventory.channel SET share = -0.1 WHERE name = 'web'",
            "UPDATE inventory.channel SET low_stock_threshold = -1 WHERE name = 'web'",
            "UPDATE inventory.channel SET low_stock_hysteresis = -1 WHERE name = 'web'",
            "UPDATE inventory.channel SET max_per_order = 0 WHERE name = 'web'",
            "UPDATE inventory.channel SET backorder_limit = -1 WHERE name = 'web'",
            "UPDATE inventory.channel SET echo_of = 'the web shop' WHERE name = 'web'",
            "UPDATE inventory.channel SET warehouses = ARRAY['W1', NULL] WHERE name = 'web'",
        ],
    )
    def test_a_policy_that_means_nothing_is_refused(self, connection, change):
        with pytest.raises(errors.CheckViolation):
            connection.execute(change)

    @pytest.mark.parametrize(
        "row",
        [
            ("as_of", "level", "stock.x.v1"),
            ("a:b", "level", "stock.x.v1"),
            ("x", "other", "stock.x.v1"),
            ("x", "level", "no spaces"),
        ],
    )
    def test_a_channel_that_means_nothing_is_refused(self, connection, row):
        with pytest.raises(errors.CheckViolation):
            connection.execute(
                "INSERT INTO inventory.channel (name, kind, topic) VALUES (%s, %s, %s)", row
            )

    @pytest.mark.parametrize(
        "column",
        ["ring_fence", "low_stock_hysteresis", "max_per_order", "backorder_limit", "buffer"],
    )
    def test_an_override_that_means_nothing_is_refused(self, connection, column):
        with pytest.raises(errors.CheckViolation):
            connection.execute(
                sql.SQL(
                    "INSERT INTO inventory.channel_sku (channel, sku, {}) VALUES ('web', 'A', -1)"
                ).format(sql.Identifier(column))
            )

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
            ("stockwire_app", "UPDATE inventory.channel SET warehouses = ARRAY['W2', 'W1']"),
            ("stockwire_app", "INSERT INTO inventory.channel_sku VALUES ('web', 'A')"),
            (
                "stockwire_app",
                "INSERT INTO inventory.channel_sku VALUES ('web', 'A'); "
                "UPDATE inventory.channel_sku SET sku = 'B'; DELETE FROM inventory.channel",
            ),
            (
                "stockwire_app",
                "INSERT INTO inventory.channel (name, kind, topic) "
                "VALUES ('x', 'level', 'stock.x.v1')",
            ),
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
            ("stockwire_debezium", "SELECT nextval('inventory.policy_version')"),
            ("stockwire_debezium", "SELECT * FROM inventory.policy_deletion"),
            ("stockwire_debezium", "UPDATE inventory.channel_sku SET ring_fence = 1"),
            ("stockwire_app", "TRUNCATE inventory.stock"),
            ("stockwire_app", "TRUNCATE inventory.outbox"),
            ("stockwire_app", "UPDATE inventory.outbox SET type = 'x'"),
            ("stockwire_app", "UPDATE inventory.heartbeat SET beat_at = now()"),
            ("stockwire_app", "INSERT INTO inventory.debezium_signal VALUES ('1', 'x', '{}')"),
            ("stockwire_app", "DELETE FROM inventory.stock_deletion"),
            ("stockwire_app", "SELECT setval('inventory.stock_version', 2)"),
            ("stockwire_app", "DELETE FROM inventory.policy_deletion"),
            ("stockwire_app", "SELECT setval('inventory.policy_version', 2)"),
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


class TestBounds:
    """An event that Kafka refuses for its size, or a topic of our own, would stop capture."""

    @pytest.mark.parametrize("column", ["reason", "reference", "caused_by"])
    def test_texts_of_a_stock_row_are_short(self, connection, column):
        insert(connection)
        change = sql.SQL("UPDATE inventory.stock SET {} = %s").format(sql.Identifier(column))
        connection.execute(change, ["x" * 1000])
        with pytest.raises(errors.CheckViolation):
            connection.execute(change, ["x" * 1001])

    @pytest.mark.parametrize("payload", [b"{", b"\xff", b'"' + b"x" * 921_600 + b'"'])
    def test_an_outbox_payload_is_json_that_kafka_takes(self, connection, payload):
        with pytest.raises((psycopg.DataError, psycopg.IntegrityError)):
            connection.execute(
                "INSERT INTO inventory.outbox (aggregatetype, aggregateid, type, payload)"
                " VALUES ('order', '1', 'x', %s)",
                [payload],
            )

    @pytest.mark.parametrize("topic", ["stockwire.inventory.stock", "__consumer_offsets"])
    def test_a_channel_has_no_topic_of_ours(self, connection, topic):
        with pytest.raises(errors.CheckViolation):
            connection.execute(
                "INSERT INTO inventory.channel (name, kind, topic) VALUES ('x', 'level', %s)",
                [topic],
            )

    @pytest.mark.parametrize("code", ["", ":x", "a|b", "x" * 65])
    def test_a_warehouse_code_fits_into_keys(self, connection, code):
        with pytest.raises(errors.CheckViolation):
            connection.execute("INSERT INTO inventory.warehouse VALUES (%s, 'x')", [code])
