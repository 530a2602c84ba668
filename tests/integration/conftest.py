"""Databases of a test's own, with the schema."""

from collections.abc import Iterator

import psycopg
import pytest

from sql.migrate import migrate
from tests.database import fresh_database


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
