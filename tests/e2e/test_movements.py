"""Movements add up, whatever was killed meanwhile."""

import random
import threading
from contextlib import contextmanager

import psycopg
import pytest

from tests.booking import assert_adds_up
from tests.e2e.selling import selling, whole
from tests.polling import eventually

pytestmark = pytest.mark.e2e

SKUS = 40
WAREHOUSES = ("T-1", "T-2")

INSERT = (
    "INSERT INTO inventory.stock (sku, warehouse, on_hand, reserved) VALUES (%s, %s, %s, %s)"
    " ON CONFLICT (sku, warehouse) DO UPDATE SET on_hand = excluded.on_hand"
)
UPDATE = "UPDATE inventory.stock SET on_hand = on_hand + %s WHERE sku = %s AND warehouse = %s"
DELETE = "DELETE FROM inventory.stock WHERE sku = %s AND warehouse = %s"


@contextmanager
def rows_that_come_and_go(settings, prefix, seed):
    """Insert, change, delete and insert again while inside; gives the number of commits."""
    stop, done = threading.Event(), []
    chance = random.Random(seed)

    def run():
        with psycopg.connect(settings.conninfo(), autocommit=True) as connection:
            while not stop.wait(0.005):
                sku, code = f"{prefix}-{chance.randrange(SKUS)}", chance.choice(WAREHOUSES)
                match chance.choice("iuuud"):
                    case "i":
                        row = [sku, code, chance.randrange(100), chance.randrange(5)]
                        connection.execute(INSERT, row)
                    case "u":
                        connection.execute(UPDATE, [chance.randrange(1, 9), sku, code])
                    case _:
                        connection.execute(DELETE, [sku, code])
                done.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def assert_books(settings, database, prefix):
    """Of rows that no other test knows: some write to the topic what no worker would."""

    def check():
        rows = database.execute("SELECT sku, warehouse, on_hand, reserved FROM inventory.stock")
        expected = {
            (sku, code): (on_hand, reserved)
            for sku, code, on_hand, reserved in rows
            if sku.startswith(prefix)
        }
        told = [m.json for m in whole(settings, "erp") if m.key.startswith(prefix.encode())]
        assert_adds_up(expected, told)
        assert not any(m["kind"] == "balance" for m in told), "all of it was told as movements"
        assert len(told) > len(expected) > 0
        return True

    eventually(check, timeout=120)


def pid(stack, part):
    return next(status.pid for status in stack.status() if status.part == part)


@pytest.mark.parametrize("seed", [1])
def test_movements_add_up_under_random_kills(stack, settings, database, sku, seed):
    chance = random.Random(seed)
    kills = ["ledger", "ledger", "connect", "kafka", "ledger", "connect"]
    chance.shuffle(kills)
    with rows_that_come_and_go(settings, sku, seed) as done, selling(settings, seed=40 + seed):
        for part in kills:
            before = len(done)
            pause = chance.randrange(50, 400)
            eventually(lambda before=before, pause=pause: len(done) > before + pause)
            # One that was killed as it started is given a moment by the supervisor.
            eventually(lambda part=part: pid(stack, part))
            stack.kill(part)
            stack.start_part(part)
    assert_books(settings, database, sku)
