"""The business that goes on while things break: a seeded plan, and an outbox event per transaction.

It survives the loss of its connection at any moment, the commit included: then nobody has told it
whether the transaction was carried out, and it asks.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import orjson
import psycopg

from bench.sellers import move_parameters
from bench.workload import Kind, Transaction, WorkloadPlan
from sql.queries import load_queries
from tests.polling import eventually

_MOVE_STOCK = load_queries()["move_stock"]
_TELL = """
INSERT INTO inventory.outbox (id, aggregatetype, aggregateid, type, payload)
VALUES (%s, 'order', %s, %s, %s)
"""
_KNOWN = "SELECT id FROM inventory.outbox WHERE id = ANY(%s)"
_REMOVE = "DELETE FROM inventory.stock WHERE sku = %s AND warehouse = %s"
_PUT_BACK = """
INSERT INTO inventory.stock (sku, warehouse, on_hand, reason, reference)
VALUES (%s, %s, %s, 'receipt', %s)
"""

#: One in so many transactions removes a row, or puts one back that was removed.
_CYCLE_EVERY = 12
_CYCLED = 20
_WAREHOUSES = ("WH-1", "WH-2", "WH-3")
_CONNECT = {"connect_timeout": 3, "keepalives_idle": 3, "keepalives_interval": 1}
_RECONNECT_SECONDS = 0.1


@dataclass(slots=True)
class Books:
    """What has been committed, as far as is known.

    Attributes:
        events: ids of outbox events that were committed.
        unknown: ids of which a lost connection left open whether they were.
        never: ids of transactions that were not carried out.
        reconnects: connections that were lost.
        refused: transactions that Postgres refused with an error.
    """

    events: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    never: set[str] = field(default_factory=set)
    changes: int = 0
    reconnects: int = 0
    refused: int = 0


class Sales:
    """Sells until told to stop, on `lanes` connections, at about `rate` changes a second."""

    def __init__(self, conninfo: str, seed: int, skus: int, rate: float, lanes: int = 2) -> None:
        self.books = Books()
        self._conninfo = conninfo
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._may_sell = threading.Event()
        self._may_sell.set()
        plan = WorkloadPlan(seed, skus, len(_WAREHOUSES))
        self._lanes = [
            _Lane(self, plan.transactions(number), Random(f"{seed}/{number}"), number, lanes / rate)
            for number in range(lanes)
        ]
        self._threads = [threading.Thread(target=lane.run, daemon=True) for lane in self._lanes]
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Sell nothing while inside."""
        self._may_sell.clear()
        try:
            eventually(lambda: all(lane.idle.is_set() for lane in self._lanes))
            yield
        finally:
            self._may_sell.set()

    def finish(self, patience: float = 60) -> Books:
        """Stop, and ask for what is still unknown; the books are complete then."""
        self._stop.set()
        for thread in self._threads:
            thread.join(patience)
            assert not thread.is_alive(), "a lane of the sales does not end"
        if self.error is not None:
            raise self.error
        books = self.books
        if books.unknown:
            with psycopg.connect(self._conninfo, **_CONNECT) as connection:
                # What was cut off in its commit may have been carried out a moment later.
                found = connection.execute(_KNOWN, [list(map(uuid.UUID, books.unknown))])
                carried_out = {str(row[0]) for row in found}
            books.events |= carried_out
            books.never |= books.unknown - carried_out
            books.unknown.clear()
        return books


class _Lane:
    """One connection and its part of the plan; `pace` is the seconds between two changes."""

    def __init__(
        self,
        sales: Sales,
        transactions: Iterator[Transaction],
        random: Random,
        number: int,
        pace: float,
    ) -> None:
        self._sales = sales
        self._transactions = transactions
        self._random = random
        self._number = number
        self._pace = pace
        self._connection: psycopg.Connection | None = None
        self._refused: set[str] = set()
        self.idle = threading.Event()

    def run(self) -> None:
        sales = self._sales
        due = time.monotonic()
        try:
            for count, transaction in enumerate(self._transactions):
                while not sales._may_sell.is_set() and not sales._stop.is_set():
                    self.idle.set()
                    sales._may_sell.wait(_RECONNECT_SECONDS)
                self.idle.clear()
                if sales._stop.is_set():
                    return
                if transaction.closes_order and transaction.reference in self._refused:
                    self._refused.remove(transaction.reference)
                    continue
                # What an outage delays is not caught up: the rate would be another one after it.
                now = time.monotonic()
                due = max(due + self._pace * len(transaction.lines), now - 0.5)
                if due > now and sales._stop.wait(due - now):
                    return
                cycle = count % _CYCLE_EVERY == _CYCLE_EVERY - 1
                if not self._commit(transaction, cycle) and transaction.kind is Kind.ORDER:
                    self._refused.add(transaction.reference)
        except BaseException as exc:
            sales.error = exc
            raise
        finally:
            if self._connection is not None:
                self._connection.close()

    def _commit(self, transaction: Transaction, cycle: bool) -> bool:
        """Whether the transaction was carried out; what is not known counts as not."""
        books, lock = self._sales.books, self._sales._lock
        event = uuid.uuid4()
        connection = self._connected()
        if connection is None:
            return False
        try:
            with connection.transaction():
                changes = connection.execute(_MOVE_STOCK, move_parameters(transaction)).rowcount
                if cycle:
                    changes += self._cycle(connection, transaction.reference)
                if changes:
                    told = orjson.dumps({"reference": transaction.reference, "lines": changes})
                    connection.execute(
                        _TELL, [event, transaction.reference, transaction.kind.value, told]
                    )
        except psycopg.Error:
            if not connection.broken:
                # Postgres has refused it, so it was not carried out.
                with lock:
                    books.refused += 1
                    books.never.add(str(event))
                return False
            with lock:
                books.unknown.add(str(event))
                books.reconnects += 1
            return False
        with lock:
            if changes:
                books.events.add(str(event))
                books.changes += changes
        return changes > 0

    def _cycle(self, connection: psycopg.Connection, reference: str) -> int:
        sku = f"CYCLE-{self._number}-{self._random.randrange(_CYCLED):02}"
        row = (sku, self._random.choice(_WAREHOUSES))
        units = self._random.randint(1, 99)
        gone = connection.execute(_REMOVE, row).rowcount
        return gone or connection.execute(_PUT_BACK, [*row, units, reference]).rowcount

    def _connected(self) -> psycopg.Connection | None:
        while self._connection is None or self._connection.broken or self._connection.closed:
            try:
                self._connection = psycopg.connect(
                    self._sales._conninfo, autocommit=True, prepare_threshold=None, **_CONNECT
                )
            except psycopg.Error:
                if self._sales._stop.wait(_RECONNECT_SECONDS):
                    return None
        return self._connection
