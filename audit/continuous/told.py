"""What channels were told, in a small SQLite file: bounded memory, and a restart goes on."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import orjson

from audit.continuous.accounts import Kept, kept, restored
from audit.continuous.texts import Told
from audit.ledger_account import LedgerAccount
from inventory.errors import AuditError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS position (
    topic INTEGER NOT NULL, partition INTEGER NOT NULL,
    next INTEGER NOT NULL, kept_since_us INTEGER, PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (
    sku TEXT NOT NULL, topic INTEGER NOT NULL, warehouse TEXT NOT NULL,
    said TEXT, version INTEGER NOT NULL, rest TEXT, partition INTEGER NOT NULL,
    PRIMARY KEY (sku, topic, warehouse)
) WITHOUT ROWID;
"""

#: Raise it with every change of the schema or of the texts: an older file is begun anew.
_FORMAT = 2
_CACHE_KIB = 16 * 1024

_TOPIC_ID = "SELECT id FROM topic WHERE name = ?"
_TOPICS = "SELECT id, name FROM topic"
_ADD_TOPIC = "INSERT OR IGNORE INTO topic (name) VALUES (?)"
_SET = "INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?, ?, ?, ?)"
_REMOVE = "DELETE FROM told WHERE sku = ? AND topic = ? AND warehouse = ?"
_OF = (
    "SELECT sku, topic, warehouse, said, version FROM told "
    "WHERE sku IN (SELECT value FROM json_each(?)) AND said IS NOT NULL"
)
_ACCOUNTS = (
    "SELECT sku, warehouse, said, version, rest FROM told "
    "WHERE sku IN (SELECT value FROM json_each(?)) AND topic = ? AND warehouse <> ''"
)
_SKUS = "SELECT DISTINCT sku FROM told WHERE sku > ? AND said IS NOT NULL ORDER BY sku LIMIT ?"
_POSITIONS = "SELECT partition, next, kept_since_us FROM position WHERE topic = ?"
_SET_POSITION = "INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?)"
_FORGET = ("DELETE FROM told WHERE topic = ?", "DELETE FROM position WHERE topic = ?")
_FORGET_PARTITION = "DELETE FROM told WHERE topic = ? AND partition = ?"


class Place(NamedTuple):
    """How far a partition was read.

    Attributes:
        next: offset of the next record.
        kept_since_us: messages before this may have expired unread, in µs since the epoch; None
            if none can have.
    """

    next: int
    kept_since_us: int | None = None


class ToldStore:
    """One connection to the file; a thread that writes and one that reads have one each.

    Every method raises `AuditError` when the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, and make it where there is none or one of an older format."""
        self._path = path
        with self._trouble():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = self._open()
            (found,) = self._connection.execute("PRAGMA user_version").fetchone()
            if found not in (0, _FORMAT):
                self._connection.close()
                path.unlink()
                self._connection = self._open()
            self._connection.executescript(f"{_SCHEMA} PRAGMA user_version = {_FORMAT};")

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        # A crash of the machine may take the last moments along: positions go with them.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return connection

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def take(self, topic: str, messages: Iterable[Told], places: Mapping[int, Place]) -> None:
        """Keep messages of a topic, in their order, and how far it was read; all or nothing.

        A ledger's are added up: an account begins at zero, unless messages may have expired before.
        """
        messages = list(messages)
        with self._trouble(), self._transaction():
            number = self._topic(topic)
            if booked := [each for each in messages if each.movement is not None]:
                self._book(number, booked, places)
            # Of several messages about the same the last one counts: no need to write the others.
            latest = {(t.sku, t.warehouse): t for t in messages if t.movement is None}.values()
            self._connection.executemany(
                _SET,
                [
                    (t.sku, number, t.warehouse, t.said, t.version, None, t.partition)
                    for t in latest
                    if t.said is not None
                ],
            )
            self._connection.executemany(
                _REMOVE, [(t.sku, number, t.warehouse) for t in latest if t.said is None]
            )
            self._connection.executemany(
                _SET_POSITION, [(number, partition, *at) for partition, at in places.items()]
            )

    def _book(self, topic: int, messages: Iterable[Told], places: Mapping[int, Place]) -> None:
        skus = orjson.dumps([*{each.sku for each in messages}]).decode()
        accounts = {
            (sku, warehouse): restored(Kept(*found))
            for sku, warehouse, *found in self._connection.execute(_ACCOUNTS, (skus, topic))
        }
        booked: dict[tuple[str, str], int] = {}
        for sku, warehouse, _, _, movement, partition in messages:
            about = (sku, warehouse)
            if about not in accounts:
                accounts[about] = LedgerAccount(places[partition].kept_since_us is None)
            assert movement is not None
            accounts[about].add(movement)
            booked[about] = partition
        self._connection.executemany(
            _SET,
            [
                (sku, topic, warehouse, *kept(accounts[sku, warehouse]), partition)
                for (sku, warehouse), partition in booked.items()
            ],
        )

    def places(self, topic: str) -> dict[int, Place]:
        """How far each partition of a topic was read."""
        with self._trouble():
            found = self._connection.execute(_TOPIC_ID, (topic,)).fetchone()
            rows = [] if found is None else self._connection.execute(_POSITIONS, found).fetchall()
        return {partition: Place(offset, since) for partition, offset, since in rows}

    def forget(self, topic: str) -> None:
        """Drop what is kept of a topic: it is gone, or another one of its name."""
        with self._trouble(), self._transaction():
            number = self._topic(topic)
            for statement in _FORGET:
                self._connection.execute(statement, (number,))

    def forget_accounts(self, topic: str, partition: int) -> None:
        """Drop a ledger's accounts: messages have expired unread, and they may not add up."""
        with self._trouble(), self._transaction():
            self._connection.execute(_FORGET_PARTITION, (self._topic(topic), partition))

    def of(self, skus: Iterable[str]) -> dict[str, dict[str, dict[str, tuple[str, int]]]]:
        """What was said of these SKUs and in which version: by SKU, topic and warehouse."""
        found: dict[str, dict[str, dict[str, tuple[str, int]]]] = {}
        with self._trouble():
            rows = self._connection.execute(_OF, (orjson.dumps(list(skus)).decode(),)).fetchall()
            # Asked for after the rows: a topic is there before anything that was said on it.
            names: dict[int, str] = dict(self._connection.execute(_TOPICS).fetchall())
        for sku, topic, warehouse, said, version in rows:
            found.setdefault(sku, {}).setdefault(names[topic], {})[warehouse] = (said, version)
        return found

    def skus(self, after: str, most: int) -> list[str]:
        """The next SKUs that anything was said of."""
        with self._trouble():
            return [sku for (sku,) in self._connection.execute(_SKUS, (after, most))]

    def _topic(self, name: str) -> int:
        self._connection.execute(_ADD_TOPIC, (name,))
        (number,) = self._connection.execute(_TOPIC_ID, (name,)).fetchone()
        assert isinstance(number, int)
        return number

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise AuditError(
                f"The auditor cannot use {self._path} ({exc}); see that its disk has room. The "
                "file can be deleted: it is filled again from the topics."
            ) from exc
