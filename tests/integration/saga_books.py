"""What a checkout leaves behind, in stock, in money and in events; held against each other."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import orjson
import psycopg

from reservations.saga.command import CheckoutRequested
from reservations.saga.machine import Step
from simulate.services import Services

ON_HAND = 10_000


@contextmanager
def services_beside() -> Iterator[Services]:
    """The services, on a thread of their own: they outlive whoever asks them."""
    services, stop, ready = Services(), asyncio.Event(), threading.Event()
    loop = asyncio.new_event_loop()

    async def main() -> None:
        async with services:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert ready.wait(30)
        yield services
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def put_up(database: str, sku: str, on_hand: int = ON_HAND) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'W1', %s)",
            [sku, on_hand],
        )


def let_time_pass(database: str) -> int:
    """Claims of the dead and pauses are over; how many sagas are open."""
    with psycopg.connect(database) as connection:
        return connection.execute(
            "UPDATE inventory.saga SET claimed_until = NULL, due_at = now() WHERE ended_at IS NULL"
        ).rowcount


def check_books(
    database: str, services: Services, commands: Sequence[CheckoutRequested], on_hand: int = ON_HAND
) -> Counter[str]:
    """Each command, all of one SKU, has ended once, and all agree; how many ended how."""
    with psycopg.connect(database) as connection:
        told = connection.execute(
            "SELECT type, payload FROM inventory.outbox WHERE aggregatetype = 'checkout'"
        ).fetchall()
        reservations = dict(
            connection.execute("SELECT id, status FROM inventory.reservation").fetchall()
        )
        statuses = dict(connection.execute("SELECT id, status FROM inventory.saga").fetchall())
        left = connection.execute(
            "SELECT on_hand, reserved FROM inventory.stock WHERE sku = %s",
            [commands[0].lines[0].sku],
        ).fetchone()
    events = [(kind.split(".")[1], orjson.loads(payload)) for kind, payload in told]
    endings: Counter[str] = Counter()
    sold = 0
    for command in commands:
        [ending] = [kind for kind, event in events if event["saga"] == str(command.saga)]
        assert statuses[command.saga] == ending
        completed = ending == "completed"
        units = sum(line.quantity for line in command.lines) if completed else 0
        key = f"{command.saga}-"
        assert services.balance(key + Step.PAY) == (command.amount_minor if completed else 0)
        assert services.balance(key + Step.SHIP) == units
        # Nothing at all, the hold let go, or expired before it could be.
        expected = {"confirmed"} if completed else {None, "released", "expired"}
        assert reservations.get(command.saga) in expected
        endings[ending] += 1
        sold += units
    effects = Counter((entry.kind, entry.key) for entry in services.ledger)
    assert set(effects.values()) <= {1}
    assert left == (on_hand - sold, 0)
    return endings
