"""A demo sells through reservations, and says what became of the orders."""

import psycopg
import pytest
from rich.console import Console

from bench.workload import WorkloadPlan
from cli.demo import WAREHOUSES, Demo

pytestmark = pytest.mark.e2e

#: Events of reservations that the demo's load has made; other tests do not sell as this caller.
TOLD = """
SELECT count(*) FROM inventory.outbox
WHERE type = 'inventory.reserved' AND convert_from(payload, 'UTF8')::jsonb ->> 'caller' = 'workload'
"""


def count(settings) -> int:
    with psycopg.connect(settings.conninfo(settings.postgres_admin_user)) as connection:
        return connection.execute(TOLD).fetchone()[0]


def test_a_demo_sells_through_reservations_and_oversells_nothing(stack, settings, capsys):
    before = count(settings)
    plan = WorkloadPlan(seed=8, skus=40, warehouses=WAREHOUSES, hot_share=0.05, sell_out=True)
    demo = Demo(settings, stack.environment(), plan, Console(highlight=False))
    outcome = demo.run(rate=100, seconds=6)
    assert outcome.load.orders_granted == count(settings) - before > 0
    # What other tests have done to rows of their own is not the demo's.
    assert [row for row in outcome.oversold if row.sku.startswith("SKU-")] == []
    assert {place for place, latency in outcome.latencies.items() if latency.count} >= {
        "redis",
        "web",
        "app",
        "wms",
        "erp",
    }
    assert f"orders: {outcome.load.orders_granted:,} granted, " in capsys.readouterr().out
