"""Keep a web shop's own copy of a channel's availability, in SQLite.

The shop reads `SELECT available, status FROM availability WHERE sku = ? AND listed`. Versions are
compared in the table itself, so that nothing stale wins after a restart either.
"""

import argparse
import contextlib
import signal
import sqlite3

from stockwire_client import AVAILABILITY, AvailabilityMessage, Change, Subscription

SCHEMA = """
CREATE TABLE IF NOT EXISTS availability (
    sku TEXT PRIMARY KEY,
    listed INTEGER NOT NULL,
    available INTEGER NOT NULL,
    status TEXT,
    backorderable INTEGER NOT NULL,
    order_limit INTEGER NOT NULL,
    restock_at TEXT,
    version INTEGER NOT NULL
) WITHOUT ROWID
"""

# A SKU that is gone keeps its row: its version holds off what is older.
PUT = """
INSERT INTO availability
    (sku, listed, available, status, backorderable, order_limit, restock_at, version)
VALUES (:sku, :listed, :available, :status, :backorderable, :order_limit, :restock_at, :version)
ON CONFLICT (sku) DO UPDATE SET
    listed = excluded.listed, available = excluded.available, status = excluded.status,
    backorderable = excluded.backorderable, order_limit = excluded.order_limit,
    restock_at = excluded.restock_at, version = excluded.version
WHERE excluded.version > availability.version
"""

FORGET = "UPDATE availability SET listed = 0 WHERE sku = ?"


def open_cache(path: str) -> sqlite3.Connection:
    """A database that readers and this writer can use at once; each statement commits."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute(SCHEMA)
    return database


def put(database: sqlite3.Connection, change: Change[AvailabilityMessage]) -> None:
    """Write a change, unless the cache has a later one."""
    if change.value is not None:
        database.execute(PUT, {**change.value, "listed": 1})
    elif change.version is None:
        database.execute(FORGET, (change.sku,))
    else:
        gone = {"listed": 0, "available": 0, "status": None, "restock_at": None}
        nothing = {"backorderable": 0, "order_limit": 0}
        database.execute(PUT, {"sku": change.sku, "version": change.version, **gone, **nothing})


def main() -> None:
    """Run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", default="127.0.0.1:19092", help="host:port of Kafka")
    parser.add_argument("--channel", default="web", help="a channel of kind availability")
    parser.add_argument("--group", default="web-cache", help="one group per cache")
    parser.add_argument("--database", default="availability.db", help="path of the SQLite file")
    chosen = parser.parse_args()
    with (
        contextlib.closing(open_cache(chosen.database)) as database,
        Subscription(
            chosen.channel,
            AVAILABILITY,
            bootstrap=chosen.bootstrap,
            group=chosen.group,
            on_poison=lambda poison: print(f"passed over: {poison.reason}", flush=True),
            on_snapshot_complete=lambda: print("the cache is complete", flush=True),
        ) as channel,
        contextlib.suppress(KeyboardInterrupt),
    ):
        signal.signal(signal.SIGTERM, lambda *_: channel.stop())
        channel.run(lambda change: put(database, change))


if __name__ == "__main__":
    main()
