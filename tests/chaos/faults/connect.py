"""Connect killed where it hurts: in the middle of a snapshot, and of long transactions."""

import time
from contextlib import ExitStack

import psycopg

from connectors.apply import CONNECTOR
from connectors.client import ConnectClient
from tests.chaos.fault import Timeline
from tests.chaos.faults.signals import kill
from tests.chaos.world import Watched, World
from tests.polling import eventually

_ROWS = 100_000
_BEGUN = "Exporting data from table 'inventory.stock'"
_THROUGH = "Snapshot ended with SnapshotResult [status=COMPLETED"
_BULK = """
INSERT INTO inventory.stock (sku, warehouse, on_hand)
SELECT 'BULK-' || n, 'WH-1', 1 FROM generate_series(1, %s) AS n ON CONFLICT DO NOTHING
"""
_BULK_AWAY = "DELETE FROM inventory.stock WHERE sku LIKE 'BULK-%'"
_LONG = """
INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'WH-1', 0)
ON CONFLICT DO NOTHING
"""
_LONG_STEP = "UPDATE inventory.stock SET on_hand = on_hand + 1, reason = 'long' WHERE sku = %s"
_TRANSACTIONS = 6
_STEPS = 40


def during_snapshot(world: Watched, timeline: Timeline) -> None:
    """A connector without offsets reads 100,000 rows; Connect dies in the middle of it."""
    with (
        psycopg.connect(world.settings.conninfo(), autocommit=True) as connection,
        ConnectClient(str(world.settings.connect_url)) as client,
    ):
        connection.execute(_BULK, [_ROWS])
        since = world.log_size("connect")
        # What is deleted while nobody reads would be nobody's fault but this test's.
        with world.sales.at_rest(), world.probe.at_rest():
            assert not world.auditor.audit_until_settled(120).drift
            client.stop(CONNECTOR)
            eventually(lambda: client.status(CONNECTOR).state == "STOPPED")
            client.delete_offsets(CONNECTOR)
            timeline.inject()
            client.resume(CONNECTOR)
            eventually(lambda: world.logged("connect", _BEGUN, since))
        kill(world, timeline, "connect")
        timeline.prove(not world.logged("connect", _THROUGH, since), "the snapshot was not through")
        eventually(lambda: world.logged("connect", _THROUGH, since), timeout=180)
        timeline.heal()


def bulk_away(world: World) -> None:
    """Delete what `during_snapshot` has put there."""
    with psycopg.connect(world.settings.conninfo(), autocommit=True) as connection:
        connection.execute(_BULK_AWAY)


def during_transactions(world: Watched, timeline: Timeline) -> None:
    """Six transactions that interleave for ten seconds; Connect dies in the middle of them."""
    conninfo = world.settings.conninfo()
    skus = [f"LONG-{n}" for n in range(_TRANSACTIONS)]
    with ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(conninfo)) for _ in skus]
        for connection, sku in zip(connections, skus, strict=True):
            connection.execute(_LONG, [sku])
            connection.commit()

        def steps() -> None:
            for number in range(_STEPS):
                for connection, sku in zip(connections, skus, strict=True):
                    connection.execute(_LONG_STEP, [sku])
                # One of them at a time is through while the others are open.
                if number % 10 == 9:
                    connections[number // 10].commit()
                time.sleep(0.05)  # They stay open for seconds: that is what Connect dies in.

        steps()
        kill(world, timeline, "connect")
        steps()
        for connection in connections:
            connection.commit()
        timeline.prove(True, f"{_TRANSACTIONS} transactions were open before, while and after")
        timeline.heal()
