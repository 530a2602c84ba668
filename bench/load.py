"""Runs a workload plan against Postgres: real transactions, as the application's role."""

import threading
from collections.abc import Callable
from itertools import islice

import psycopg

from bench.lane import Lane, LoadReport, Totals
from bench.sellers import SELLERS, Through
from bench.workload import WorkloadPlan, sku_name, warehouse_name
from sql.queries import load_queries

_QUERIES = load_queries()


def seed_catalogue(
    conninfo: str, skus: int = 5_000, warehouses: int = 3, seed: int = 1, first: int = 1
) -> int:
    """Insert warehouses and a row of stock per SKU and warehouse; return the rows inserted.

    The SKUs are those from the number `first` to the number `skus`.
    Rows that exist are left as they are. A row starts with 500 to 1,011 units on hand.
    """
    names = [warehouse_name(n) for n in range(1, warehouses + 1)]
    with psycopg.connect(conninfo) as connection:
        connection.execute(_QUERIES["seed_warehouses"], {"warehouses": names})
        cursor = connection.execute(
            _QUERIES["seed_stock"],
            {
                "skus": [sku_name(n) for n in range(first, skus + 1)],
                "warehouses": names,
                "seed": seed,
            },
        )
        return cursor.rowcount


def bulk_update(conninfo: str, rows: int, reference: str = "BULK") -> int:
    """Change the first `rows` rows of stock in one transaction; return how many there were."""
    with psycopg.connect(conninfo) as connection:
        cursor = connection.execute(_QUERIES["bulk_update"], {"rows": rows, "reference": reference})
        return cursor.rowcount


def open_sale(conninfo: str, sku: str, units: int, reference: str = "SALE") -> int:
    """Put up so many units of a SKU in each of its warehouses; return how many those are."""
    with psycopg.connect(conninfo) as connection:
        cursor = connection.execute(
            _QUERIES["open_sale"], {"sku": sku, "units": units, "reference": reference}
        )
        return cursor.rowcount


def run(
    conninfo: str,
    plan: WorkloadPlan,
    *,
    changes_per_second: float | None = None,
    duration: float | None = None,
    max_transactions: int | None = None,
    connections: int = 2,
    through: Through = Through.SQL,
    stop: threading.Event | None = None,
    on_commit: Callable[[LoadReport], None] = lambda _: None,
) -> LoadReport:
    """Run the plan until the time is over, the number is reached, or `stop` is set.

    With several connections each runs its own lane of the plan, so that transactions interleave.
    With one, the same plan on the same stock leaves the same stock behind.

    Args:
        conninfo: libpq URL or keywords of a role that may change stock.
        plan: what to run; its SKUs must be seeded.
        changes_per_second: rows per second over all connections that the plan asks to change.
            Open loop: what a stall delays is caught up. None runs flat out.
        duration: seconds; None for no limit.
        max_transactions: transactions taken from the plan, over all connections; None for no limit.
        connections: lanes, each with a connection.
        through: how a lane carries out its transactions.
        stop: ends the run early, after the transactions in hand; set as well when a lane fails.
        on_commit: called after each transaction with the totals so far, by one thread at a time.
            Be quick, and neither keep nor change the report.

    Raises:
        ValueError: a rate or a number of connections that is not positive.
        psycopg.Error: Postgres is gone or refuses the role; the other lanes are stopped first.
        Outage: the same, through reservations.
    """
    if connections < 1 or (changes_per_second is not None and changes_per_second <= 0):
        raise ValueError("connections and changes_per_second must be above 0")
    halt = stop or threading.Event()
    totals = Totals(on_commit)
    pace = None if changes_per_second is None else connections / changes_per_second
    lanes = []
    for number in range(connections):
        transactions = plan.transactions(number)
        if max_transactions is not None:
            share, rest = divmod(max_transactions, connections)
            transactions = islice(transactions, share + (number < rest))
        lanes.append(Lane(transactions, pace, duration, halt, totals))
    SELLERS[through](conninfo, lanes)
    return totals.report
