"""A database of a test's own on the test stack, so that the running pipeline is left alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from inventory.settings import Settings


@contextmanager
def fresh_database(settings: Settings) -> Iterator[str]:
    """Create an empty database and drop it at the end; yields the admin's conninfo for it."""
    admin = settings.conninfo(settings.postgres_admin_user)
    name = f"stockwire_test_{uuid4().hex[:12]}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield make_conninfo(admin, dbname=name)
    finally:
        # Another connection: tests kill Postgres.
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )


def as_role(conninfo: str, role: str) -> str:
    """The admin's conninfo with the rights of another role; needs no password of that role."""
    return make_conninfo(conninfo, options=f"-c role={role}")
