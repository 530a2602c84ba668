"""Reads what there is to know of Postgres, as the application's role."""

import shutil
import time
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import scalar_row

from guard.facts import LineStop, PostgresFacts, SlotFacts, Unread
from guard.names import CDC_ROLE, PUBLICATION, RIGHTS, SLOT
from inventory.policy import ChannelKind
from inventory.topics import TopicSpec, channel_topic_spec
from sql.queries import load_queries

_QUERIES = load_queries()
_SECONDS = 3
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def open_database(conninfo: str, timeout: int | None = _SECONDS) -> psycopg.Connection:
    """Connect in autocommit; no statement takes longer than `timeout` seconds, None: any time."""
    limits = {} if timeout is None else {"options": f"-c statement_timeout={timeout}s"}
    return psycopg.connect(
        make_conninfo(
            conninfo,
            connect_timeout=_SECONDS if timeout is None else max(2, timeout),
            application_name="stockwire-guard",
            **limits,
        ),
        autocommit=True,
        # A prepared statement fails once DDL has changed what it returns.
        prepare_threshold=None,
    )


def read_postgres(conninfo: str, look_again_after: float = 1.0) -> PostgresFacts | Unread:
    """Look at the database; twice when `look_again_after` seconds are given, for the WAL's rate."""
    try:
        with open_database(conninfo) as connection:
            return _read(connection, conninfo, look_again_after)
    except psycopg.Error as exc:
        return Unread(" ".join(str(exc).split()))


def read_slot(connection: psycopg.Connection) -> SlotFacts | None:
    """The replication slot of this database; None when there is none."""
    with connection.cursor() as cursor:
        row = cursor.execute(_QUERIES["doctor_slot"], {"slot": SLOT}).fetchone()
    return None if row is None else SlotFacts(*row)


def read_stop(connection: psycopg.Connection) -> LineStop | None:
    """The note that capture must stand still, if there is one."""
    row = connection.execute(_QUERIES["line_stop"]).fetchone()
    return None if row is None else LineStop(*row)


def read_stock_version(connection: psycopg.Connection) -> int | None:
    """The last version of a stock row that was drawn; 0 before the first, None when unknown.

    It is unknown without the sequence, or without a right on it (a restore may leave both out).
    """
    with connection.cursor(row_factory=scalar_row) as cursor:
        found = cursor.execute(_QUERIES["doctor_stock_version"]).fetchone()
    return None if found is None else int(found)


def read_channel_topics(conninfo: str) -> tuple[TopicSpec, ...]:
    """The channels' topics as they must be; raises `psycopg.Error` when Postgres cannot say."""
    with open_database(conninfo) as connection:
        rows = connection.execute(_QUERIES["doctor_channel_topics"]).fetchall()
    return tuple(channel_topic_spec(topic, ChannelKind(kind)) for topic, kind in rows)


def read_wal_position(connection: psycopg.Connection) -> int:
    """How many bytes of WAL were ever written."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        found = cursor.execute(_QUERIES["doctor_wal_position"]).fetchone()
    return int(found or 0)


def read_disk_free(connection: psycopg.Connection, conninfo: str) -> int | None:
    """Free bytes where the database's data is; None when that is not on this machine."""
    if conninfo_to_dict(conninfo).get("host") not in _LOOPBACK:
        return None
    with connection.cursor(row_factory=scalar_row) as cursor:
        directory = cursor.execute(_QUERIES["doctor_data_directory"]).fetchone()
    try:
        # A server in a container is on loopback too, and its directory is not here.
        return shutil.disk_usage(Path(directory)).free if directory else None
    except OSError:
        return None


def _read(connection: psycopg.Connection, conninfo: str, look_again_after: float) -> PostgresFacts:
    asked = time.time()
    server = connection.execute(_QUERIES["doctor_server"]).fetchone()
    answered = time.time()
    if server is None:
        raise psycopg.DataError("the server said nothing of itself")
    version, wal_level, max_slots, slots, keep_mb, position, clock = server
    looked = time.monotonic()
    with connection.cursor(row_factory=scalar_row) as cursor:
        published = cursor.execute(
            _QUERIES["doctor_published"], {"publication": PUBLICATION}
        ).fetchall()
        missing = cursor.execute(
            _QUERIES["doctor_rights"],
            {
                "role": CDC_ROLE,
                "privileges": [privilege for privilege, _ in RIGHTS],
                "relations": [relation for _, relation in RIGHTS],
            },
        ).fetchall()
    identities: dict[str, str] = dict(connection.execute(_QUERIES["doctor_identities"]).fetchall())
    slot = before = read_slot(connection)
    rate = growth = None
    if look_again_after > 0:
        time.sleep(max(0.0, looked + look_again_after - time.monotonic()))
        written = read_wal_position(connection) - position
        slot = read_slot(connection)
        seconds = max(time.monotonic() - looked, 0.001)
        rate = written / seconds
        growth = _growth(before, slot, seconds)
    return PostgresFacts(
        version=version,
        wal_level=wal_level,
        max_slots=max_slots,
        slots=slots,
        slot_keep_mb=keep_mb,
        published=frozenset(published),
        identities=identities,
        slot=slot,
        wal_position=read_wal_position(connection),
        wal_rate=rate,
        retained_rate=growth,
        disk_free=read_disk_free(connection, conninfo),
        skew=clock - (asked + answered) / 2,
        stock_version=read_stock_version(connection),
        missing_rights=tuple(dict.fromkeys(missing)),
        stopped=read_stop(connection),
    )


def _growth(before: SlotFacts | None, after: SlotFacts | None, seconds: float) -> float | None:
    """Bytes a second by which the retained WAL grew."""
    first = None if before is None else before.retained
    second = None if after is None else after.retained
    return None if first is None or second is None else (second - first) / seconds
