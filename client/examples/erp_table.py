"""Book every movement exactly once into Postgres: a ledger, and the quantities that it adds up to.

Needs psycopg (`pip install psycopg[binary]`). A movement and the sum that it changes are written in
one transaction, and `movement_id` is the ledger's primary key: what comes again changes nothing.
The result does not depend on the order in which movements and balances come.
"""

import argparse
import contextlib
import signal

import psycopg

from stockwire_client import MOVEMENT, Change, MovementKind, MovementMessage, Subscription

SCHEMA = """
CREATE TABLE IF NOT EXISTS erp_movement (
    movement_id text PRIMARY KEY,
    sku text NOT NULL, warehouse text NOT NULL, version bigint NOT NULL,
    delta_on_hand integer NOT NULL, delta_reserved integer NOT NULL,
    reason text, reference text, caused_by text, committed_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS erp_movement_row ON erp_movement (sku, warehouse, version);
-- on_hand and reserved: those after version `since`, plus every movement after it.
CREATE TABLE IF NOT EXISTS erp_stock (
    sku text, warehouse text, on_hand integer NOT NULL, reserved integer NOT NULL,
    since bigint NOT NULL, PRIMARY KEY (sku, warehouse)
);
"""

# A ledger that begins in the middle begins with what was there before its first movement.
OPEN = """
INSERT INTO erp_stock (sku, warehouse, on_hand, reserved, since)
VALUES (%(sku)s, %(warehouse)s, %(on_hand)s::int - coalesce(%(delta_on_hand)s::int, 0),
        %(reserved)s::int - coalesce(%(delta_reserved)s::int, 0),
        CASE WHEN %(kind)s = 'balance' THEN %(version)s::bigint
             ELSE coalesce(%(previous_version)s::bigint, %(version)s::bigint - 1) END)
ON CONFLICT DO NOTHING
"""

LOCK = "SELECT FROM erp_stock WHERE (sku, warehouse) = (%(sku)s, %(warehouse)s) FOR UPDATE"

BOOK = """
WITH booked AS (
    INSERT INTO erp_movement VALUES (
        %(movement_id)s, %(sku)s, %(warehouse)s, %(version)s, %(delta_on_hand)s,
        %(delta_reserved)s, %(reason)s, %(reference)s, %(caused_by)s, %(committed_at)s)
    ON CONFLICT DO NOTHING RETURNING *)
UPDATE erp_stock AS stock
SET on_hand = stock.on_hand + booked.delta_on_hand,
    reserved = stock.reserved + booked.delta_reserved
FROM booked
WHERE (stock.sku, stock.warehouse) = (booked.sku, booked.warehouse)
  AND booked.version > stock.since
"""

# Start from a balance, unless the sum starts from a later one, and add up what came after it.
BALANCE = """
UPDATE erp_stock AS stock SET
    on_hand = %(on_hand)s + coalesce(later.on_hand, 0),
    reserved = %(reserved)s + coalesce(later.reserved, 0), since = %(version)s
FROM (SELECT sum(delta_on_hand)::int AS on_hand, sum(delta_reserved)::int AS reserved
      FROM erp_movement WHERE (sku, warehouse) = (%(sku)s, %(warehouse)s)
      AND version > %(version)s) AS later
WHERE (stock.sku, stock.warehouse) = (%(sku)s, %(warehouse)s) AND stock.since < %(version)s
"""


def book(database: psycopg.Connection, change: Change[MovementMessage]) -> None:
    """Book a movement or a balance, in one transaction."""
    message = change.value
    if message is None:
        raise ValueError("a movement always has a value")
    with database.transaction():
        database.execute(OPEN, message)
        database.execute(LOCK, message)
        database.execute(BALANCE if message["kind"] is MovementKind.BALANCE else BOOK, message)


def main() -> None:
    """Run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", default="127.0.0.1:19092", help="host:port of Kafka")
    parser.add_argument("--channel", default="erp", help="a channel of kind movement")
    parser.add_argument("--group", default="erp-table", help="one group per ledger")
    parser.add_argument("--dsn", required=True, help="libpq URL of the ERP's own database")
    chosen = parser.parse_args()
    with (
        psycopg.connect(chosen.dsn, autocommit=True) as database,
        Subscription(
            chosen.channel, MOVEMENT, bootstrap=chosen.bootstrap, group=chosen.group
        ) as channel,
        contextlib.suppress(KeyboardInterrupt),
    ):
        signal.signal(signal.SIGTERM, lambda *_: channel.stop())
        database.execute(SCHEMA)
        channel.run(lambda change: book(database, change))


if __name__ == "__main__":
    main()
