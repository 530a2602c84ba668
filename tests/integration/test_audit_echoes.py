"""What an audit reads of who has caused a change, from a real Postgres."""

import psycopg
import pytest

from audit.postgres import read_stock
from audit.report import Key
from inventory.settings import Settings
from sql.migrate import migrate
from tests.database import fresh_database

pytestmark = pytest.mark.integration


def test_who_has_caused_a_change_is_read_where_a_ledger_does_not_hear_of_it(
    stack: object, settings: Settings
):
    with fresh_database(settings) as conninfo:
        migrate(conninfo)
        with psycopg.connect(conninfo) as connection:
            connection.execute("INSERT INTO inventory.warehouse VALUES ('W', 'One')")
            connection.execute("UPDATE inventory.channel SET echo_of = 'till' WHERE name = 'erp'")
            connection.cursor().executemany(
                "INSERT INTO inventory.stock (sku, warehouse, on_hand, caused_by)"
                " VALUES (%s, 'W', 1, %s)",
                [("OWN", "till"), ("OTHER", "shop"), ("NOBODY", None)],
            )
        assert read_stock(conninfo).echoes == {Key("OWN", "W"): "till"}
