"""Runs a workload plan against Postgres: real transactions, as the application's role."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import psycopg

from bench.workload import Kind, Transaction, WorkloadPlan, sku_name, warehouse_name
from sql.queries import load_queries

_QUERIES = load_queries()
_MOVE_STOCK = _QUERIES["move_stock"]


@dataclass(slots=True)
class LoadReport:
    """What a run has done so far.

    Attributes:
        transactions: committed transactions that changed rows.
        changes: rows they changed.
        refused: transactions that changed nothing for lack of stock; a normal outcome.
        seconds: time since the start.
        by_kind: committed transactions per kind.
    """

    transactions: int = 0
    changes: int = 0
    refused: int = 0
    seconds: float = 0.0
    by_kind: Counter[Kind] = field(default_factory=Counter)

    @property
    def changes_per_second(self) -> float:
        """The rate reached."""
        return self.changes / self.seconds if self.seconds else 0.0


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
        connections: lanes, each with a connection and a thread.
        stop: ends the run early, after the transactions in hand; set as well when a lane fails.
        on_commit: called after each transaction with the totals so far, by one thread at a time.
            Be quick, and neither keep nor change the report.

    Raises:
        ValueError: a rate or a number of connections that is not positive.
        psycopg.Error: Postgres is gone or refuses the role; the other lanes are stopped first.
    """
    if connections < 1 or (changes_per_second is not None and changes_per_second <= 0):
        raise ValueError("connections and changes_per_second must be above 0")
    halt = stop or threading.Event()
    totals = _Totals(on_commit)
    pace = None if changes_per_second is None else connections / changes_per_second
    with ThreadPoolExecutor(connections, thread_name_prefix="load") as pool:
        lanes = []
        for number in range(connections):
            transactions = plan.transactions(number)
            if max_transactions is not None:
                share, rest = divmod(max_transactions, connections)
                transactions = islice(transactions, share + (number < rest))
            lane = _Lane(conninfo, transactions, pace, duration, halt, totals)
            lanes.append(pool.submit(lane.run))
    for future in lanes:
        future.result()
    return totals.report


class _Totals:
    """The report, shared by all lanes."""

    def __init__(self, on_commit: Callable[[LoadReport], None]) -> None:
        self.report = LoadReport()
        self.started = time.monotonic()
        self._on_commit = on_commit
        self._lock = threading.Lock()

    def add(self, kind: Kind, changes: int) -> None:
        with self._lock:
            report = self.report
            report.seconds = time.monotonic() - self.started
            if changes:
                report.transactions += 1
                report.changes += changes
                report.by_kind[kind] += 1
            else:
                report.refused += 1
            self._on_commit(report)


@dataclass(slots=True)
class _Lane:
    """One connection's part of the plan; `pace` is the seconds between two changes."""

    conninfo: str
    transactions: Iterator[Transaction]
    pace: float | None
    duration: float | None
    halt: threading.Event
    totals: _Totals

    def run(self) -> None:
        try:
            with psycopg.connect(self.conninfo, autocommit=True, prepare_threshold=0) as connection:
                # Planning anew for each set of lines would cost more than running the statement.
                connection.execute("SET plan_cache_mode = force_generic_plan")
                self._run(connection)
        except BaseException:
            self.halt.set()
            raise

    def _run(self, connection: psycopg.Connection) -> None:
        refused_orders: set[str] = set()
        offered = 0
        for transaction in self.transactions:
            if transaction.closes_order and transaction.reference in refused_orders:
                refused_orders.remove(transaction.reference)
                continue
            if not self._wait_until_due(offered):
                return
            changes = connection.execute(_MOVE_STOCK, _parameters(transaction)).rowcount
            if not changes and transaction.kind is Kind.ORDER:
                refused_orders.add(transaction.reference)
            offered += len(transaction.lines)
            self.totals.add(transaction.kind, changes)

    def _wait_until_due(self, offered: int) -> bool:
        """Wait until the next change is due; False when the run is over."""
        elapsed = time.monotonic() - self.totals.started
        due = elapsed if self.pace is None else max(elapsed, offered * self.pace)
        if self.duration is not None and due >= self.duration:
            self.halt.wait(self.duration - elapsed)
            return False
        return not (self.halt.wait(due - elapsed) if due > elapsed else self.halt.is_set())


def _parameters(transaction: Transaction) -> dict[str, object]:
    lines = transaction.lines
    return {
        "sku": [line.sku for line in lines],
        "warehouse": [line.warehouse for line in lines],
        "on_hand": [line.on_hand for line in lines],
        "reserved": [line.reserved for line in lines],
        "reason": transaction.kind.value,
        "reference": transaction.reference,
    }
