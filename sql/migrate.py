"""Applies the numbered migrations: in order, each in one transaction, one process at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict
from yoyo import default_migration_table, read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI
from yoyo.migrations import MigrationList

from inventory.errors import MigrationError

_SOURCE = "package:sql:migrations"

#: Any number, as long as nothing else in the database locks it.
_LOCK = 7_286_190_345

#: How long to wait for another migration, and for a table's lock: a migration that waits for a
#: table makes everybody queue behind it.
_LOCK_TIMEOUT = "30s"


def migrate(conninfo: str, say: Callable[[str], None] = lambda _: None) -> list[str]:
    """Apply what is pending, and return the ids of the migrations applied now.

    Safe to run at any time and from several processes at once: the second waits, and finds
    nothing left to do. A migration and the note that it was applied commit together.

    Args:
        conninfo: libpq URL or keywords of a role that may create schemas, roles and publications.
        say: told one line per migration applied.

    Raises:
        MigrationError: the database does not answer, another migration does not end, or a
            migration failed; earlier ones stay applied, the failed one leaves no trace.
    """
    done: list[str] = []
    with _locked(conninfo) as backend:
        for migration in _to_apply(backend):
            # Yoyo's own `apply_one` notes a migration in a second transaction, on another
            # connection; a crash between the two would leave it applied and not noted.
            try:
                with backend.transaction():
                    migration.process_steps(backend, "apply")
                    backend.mark_one(migration)
            except psycopg.Error as exc:
                raise MigrationError(
                    f"Migration {migration.id} failed and was rolled back: {_text(exc)}"
                ) from exc
            done.append(migration.id)
            say(f"applied {migration.id}")
    return done


def pending(conninfo: str) -> list[str]:
    """The ids of the migrations that `migrate` would apply, in order.

    Takes the same role and the same lock, so that it never sees half a run.

    Raises:
        MigrationError: the database does not answer, or another migration does not end.
    """
    with _locked(conninfo) as backend:
        return [migration.id for migration in _to_apply(backend)]


def _to_apply(backend: PostgresqlPsycopgBackend) -> MigrationList:
    return backend.to_apply(read_migrations(_SOURCE))


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo has no types
    @contextmanager
    def lock(self, timeout: float = 0) -> Iterator[None]:  # noqa: ARG002 - yoyo's signature
        """Yoyo's own lock row is not needed, and a killed process would leave it behind."""
        yield


@contextmanager
def _locked(conninfo: str) -> Iterator[PostgresqlPsycopgBackend]:
    """Yoyo's backend on a connection that holds the migration lock, an advisory one."""
    try:
        backend = _Backend(_uri(conninfo), default_migration_table)
    except psycopg.Error as exc:
        raise MigrationError(
            f"Cannot connect to Postgres to migrate: {_text(exc)}. "
            "Is it running, and is STOCKWIRE_POSTGRES_DSN right?"
        ) from exc
    with backend:
        connection = backend.connection
        try:
            connection.execute("SELECT set_config('lock_timeout', %s, false)", [_LOCK_TIMEOUT])
            connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            yield backend
        except psycopg.errors.LockNotAvailable as exc:
            raise MigrationError(
                f"Another migration, or a transaction on a table to migrate, has not ended within "
                f"{_LOCK_TIMEOUT}; look for it in pg_stat_activity and try again."
            ) from exc
        except psycopg.Error as exc:
            raise MigrationError(f"Postgres refused to migrate: {_text(exc)}") from exc


def _uri(conninfo: str) -> DatabaseURI:
    """The connection as yoyo takes it.

    Yoyo reads URLs of its own kind; libpq's parser reads all that libpq allows, and yoyo hands
    every parameter it has no field for (`passfile`, `sslmode`, ...) through to psycopg.
    """
    parameters = conninfo_to_dict(conninfo)
    return DatabaseURI(
        scheme="postgresql+psycopg",
        username=parameters.pop("user", None),
        password=parameters.pop("password", None),
        hostname=parameters.pop("host", None),
        port=parameters.pop("port", None),
        database=parameters.pop("dbname", None),
        args=parameters,
    )


def _text(exc: Exception) -> str:
    return " ".join(str(exc).split())
