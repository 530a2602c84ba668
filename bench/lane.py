"""One connection's part of a plan, as it falls due; and what all of them have done."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from bench.workload import Kind, Transaction


@dataclass(slots=True)
class LoadReport:
    """What a run has done so far.

    Attributes:
        transactions: committed transactions that changed rows.
        changes: rows they changed.
        refused: transactions that changed nothing for lack of stock; a normal outcome.
        seconds: time since the start.
        orders_granted, orders_refused: those of them that were orders.
        by_kind: committed transactions per kind.
    """

    transactions: int = 0
    changes: int = 0
    refused: int = 0
    seconds: float = 0.0
    orders_granted: int = 0
    orders_refused: int = 0
    by_kind: Counter[Kind] = field(default_factory=Counter)

    @property
    def changes_per_second(self) -> float:
        """The rate reached."""
        return self.changes / self.seconds if self.seconds else 0.0


class Totals:
    """The report, shared by all lanes."""

    def __init__(self, on_commit: Callable[[LoadReport], None]) -> None:
        """Call `on_commit` after each transaction, from one thread at a time."""
        self.report = LoadReport()
        self.started = time.monotonic()
        self._on_commit = on_commit
        self._lock = threading.Lock()

    def add(self, kind: Kind, changes: int) -> None:
        """Count a transaction that has changed so many rows; none: it was refused."""
        with self._lock:
            report = self.report
            report.seconds = time.monotonic() - self.started
            if changes:
                report.transactions += 1
                report.changes += changes
                report.by_kind[kind] += 1
            else:
                report.refused += 1
            if kind is Kind.ORDER:
                report.orders_granted += changes > 0
                report.orders_refused += not changes
            self._on_commit(report)


class Lane:
    """Says what is due when, and is told what came of it; whoever carries it out does the waiting.

    Attributes:
        halt: set when the run is over, by any lane or from outside.
    """

    def __init__(
        self,
        transactions: Iterable[Transaction],
        pace: float | None,
        duration: float | None,
        halt: threading.Event,
        totals: Totals,
    ) -> None:
        """Take these transactions; `pace` is the seconds between two changes, None flat out."""
        self.halt = halt
        self._transactions = transactions
        self._pace = pace
        self._duration = duration
        self._totals = totals
        self._refused_orders: set[str] = set()
        #: Rows that were changed so far, or would have been.
        self._offered = 0

    def steps(self) -> Iterator[tuple[float, Transaction | None]]:
        """Transactions, each with the seconds until it is due; in the end perhaps only a wait."""
        for transaction in self._transactions:
            if transaction.closes_order and transaction.reference in self._refused_orders:
                self._refused_orders.remove(transaction.reference)
                continue
            elapsed = time.monotonic() - self._totals.started
            due = elapsed if self._pace is None else max(elapsed, self._offered * self._pace)
            if self._duration is not None and due >= self._duration:
                yield self._duration - elapsed, None
                return
            yield due - elapsed, transaction

    def carried_out(self, transaction: Transaction, changes: int) -> None:
        """Count a transaction that has changed so many rows; none: it was refused."""
        self._offered += changes or len(transaction.lines)
        if not changes and transaction.kind is Kind.ORDER:
            self._refused_orders.add(transaction.reference)
        self._totals.add(transaction.kind, changes)
