"""Ways to carry out a plan: one bare statement each, or the write side as shops use it."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias
from uuid import UUID, uuid4

import psycopg
import uvloop

from bench.lane import Lane
from bench.workload import Kind, Transaction
from reservations.basket import Line, Refused, Reserve
from reservations.pool import open_pool
from reservations.service import Reservations
from sql.queries import load_queries

_MOVE_STOCK = load_queries()["move_stock"]
#: Who asks, to the write side, and who has caused the change, to a ledger.
_CALLER = "workload"
#: How long to wait for Postgres at the start, and at most for seeing that a run is over.
_WAIT_SECONDS = 5.0
_NOTICE_SECONDS = 0.1


class Through(StrEnum):
    """How a load reaches the stock."""

    RESERVATIONS = "reservations"
    SQL = "sql"


class _Shop:
    """Baskets are reserved, and confirmed or released; deliveries and counts are adjustments.

    A basket is taken from the warehouses of its order, the first one first: which line comes from
    which of them, is the write side's to say.
    """

    def __init__(self, reservations: Reservations) -> None:
        self._reservations = reservations
        #: The same plan may be carried out again: under the same keys nothing would be done.
        self._run = uuid4().hex[:8]
        #: Of orders that are held, by reference.
        self._held: dict[str, UUID] = {}

    async def carry_out(self, transaction: Transaction) -> int:
        """Do it; how many rows of stock have changed: none when it was refused.

        Raises:
            Outage: Postgres takes no work.
        """
        match transaction.kind:
            case Kind.ORDER:
                return await self._reserve(transaction)
            case Kind.SHIPMENT | Kind.CANCELLATION:
                return await self._close(transaction)
            case Kind.TRANSFER:
                return await self._transfer(transaction)
            case Kind.RECEIPT | Kind.COUNT:
                return await self._adjust(transaction)

    async def _reserve(self, order: Transaction) -> int:
        wanted: Counter[str] = Counter()
        for line in order.lines:
            wanted[line.sku] += line.reserved
        answer = await self._reservations.reserve(
            Reserve(
                _CALLER,
                self._key(order),
                order.reference,
                tuple(Line(sku, units) for sku, units in wanted.items()),
                warehouses=tuple({line.warehouse: None for line in order.lines}),
            )
        )
        if isinstance(answer, Refused):
            return 0
        self._held[order.reference] = answer.reservation
        return len(answer.held)

    async def _close(self, transaction: Transaction) -> int:
        close = (
            self._reservations.confirm
            if transaction.kind is Kind.SHIPMENT
            else self._reservations.release
        )
        held = self._held.pop(transaction.reference)
        answer = await close(held, caller=_CALLER, key=self._key(transaction))
        return 0 if isinstance(answer, Refused) else len(answer.versions)

    async def _transfer(self, transaction: Transaction) -> int:
        source, target = sorted(transaction.lines, key=lambda line: line.on_hand)
        answer = await self._reservations.transfer(
            source.sku,
            source.warehouse,
            target.warehouse,
            target.on_hand,
            caller=_CALLER,
            key=self._key(transaction),
            reference=transaction.reference,
        )
        return 0 if isinstance(answer, Refused) else len(answer.versions)

    async def _adjust(self, transaction: Transaction) -> int:
        (line,) = transaction.lines
        answer = await self._reservations.adjust(
            line.sku,
            line.warehouse,
            line.on_hand,
            caller=_CALLER,
            key=self._key(transaction),
            reference=transaction.reference,
            reason=transaction.kind.value,
        )
        return 0 if isinstance(answer, Refused) else len(answer.versions)

    def _key(self, transaction: Transaction) -> str:
        return f"{transaction.reference}/{transaction.kind}/{self._run}"


def _by_statement(conninfo: str, lanes: Sequence[Lane]) -> None:
    """A thread for each lane: nothing but the statement costs anything."""
    with ThreadPoolExecutor(len(lanes), thread_name_prefix="load") as pool:
        running = [pool.submit(_run_statements, conninfo, lane) for lane in lanes]
    for future in running:
        future.result()


def _run_statements(conninfo: str, lane: Lane) -> None:
    with (
        _halting(lane),
        psycopg.connect(conninfo, autocommit=True, prepare_threshold=0) as connection,
    ):
        # Planning anew for each set of lines would cost more than running the statement.
        connection.execute("SET plan_cache_mode = force_generic_plan")
        for seconds, transaction in lane.steps():
            if lane.halt.wait(seconds) if seconds > 0 else lane.halt.is_set():
                return
            if transaction is not None:
                moved = connection.execute(_MOVE_STOCK, move_parameters(transaction)).rowcount
                lane.carried_out(transaction, moved)


def _by_reservations(conninfo: str, lanes: Sequence[Lane]) -> None:
    """One loop for all lanes: threads would spend a third more on taking turns."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_reserve_in(conninfo, lanes))


async def _reserve_in(conninfo: str, lanes: Sequence[Lane]) -> None:
    async with open_pool(
        conninfo, size=len(lanes), wait_seconds=_WAIT_SECONDS, name=_CALLER
    ) as pool:
        reservations = Reservations(pool)
        ended = await asyncio.gather(
            *(_reserve(lane, _Shop(reservations)) for lane in lanes), return_exceptions=True
        )
    for failure in ended:
        if failure is not None:
            raise failure


async def _reserve(lane: Lane, shop: _Shop) -> None:
    with _halting(lane):
        for seconds, transaction in lane.steps():
            if await _halted(lane.halt, seconds):
                return
            if transaction is not None:
                lane.carried_out(transaction, await shop.carry_out(transaction))


async def _halted(halt: threading.Event, seconds: float) -> bool:
    """Let so many seconds go by; whether the run is over, which is noticed soon."""
    until = time.monotonic() + seconds
    # It is set by other threads, which know nothing of this loop.
    while not halt.is_set() and (left := until - time.monotonic()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(min(left, _NOTICE_SECONDS))
    return halt.is_set()


@contextmanager
def _halting(lane: Lane) -> Iterator[None]:
    """A lane that fails ends the others."""
    try:
        yield
    except BaseException:
        lane.halt.set()
        raise


#: Carries out lanes until they end or are halted, over as many connections, from libpq's URL or
#: keywords of a role that may change stock. The others are halted when one fails.
#: Raises psycopg.Error or Outage when Postgres takes no work.
Sell: TypeAlias = Callable[[str, Sequence[Lane]], None]

SELLERS: Mapping[Through, Sell] = MappingProxyType(
    {Through.RESERVATIONS: _by_reservations, Through.SQL: _by_statement}
)


def move_parameters(transaction: Transaction) -> dict[str, object]:
    """What the query `move_stock` takes."""
    lines = transaction.lines
    return {
        "sku": [line.sku for line in lines],
        "warehouse": [line.warehouse for line in lines],
        "on_hand": [line.on_hand for line in lines],
        "reserved": [line.reserved for line in lines],
        "reason": transaction.kind.value,
        "reference": transaction.reference,
    }
