"""Changes settings of a running Postgres."""

import psycopg
from psycopg import sql

_SET = sql.SQL("ALTER SYSTEM SET {} = {}")
_RESET = sql.SQL("ALTER SYSTEM RESET {}")


def alter_system(connection: psycopg.Connection, settings: dict[str, str | None]) -> None:
    """Set these, or with None set them back, and have Postgres read them; needs a superuser."""
    for name, value in settings.items():
        if value is None:
            connection.execute(_RESET.format(sql.Identifier(name)))
        else:
            connection.execute(_SET.format(sql.Identifier(name), sql.Literal(value)))
    connection.execute("SELECT pg_reload_conf()")
