"""Checkouts to test with: commands, a stock and rows in memory, and ports that say what they do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

from reservations.basket import Closed, Granted, Held, Reason, Refused, Reserve, Short, Strategy
from reservations.saga.command import CheckoutRequested
from reservations.saga.events import Ending, ending
from reservations.saga.machine import Saga
from reservations.saga.ports import Charge, Done, No, Parcel, Payment, Shipping, Stock
from reservations.saga.store import Sagas

_T = TypeVar("_T")


def a_command(
    sku: str = "SKU-1",
    quantity: int = 1,
    amount: int = 999,
    method: str = "card-1",
    ship_to: str = "Somewhere 1",
) -> CheckoutRequested:
    return CheckoutRequested.model_validate(
        {
            "id": str(uuid4()),
            "caller": "web",
            "reference": "ORDER-1",
            "lines": [{"sku": sku, "quantity": quantity}],
            "amount_minor": amount,
            "currency": "EUR",
            "payment_method": method,
            "ship_to": ship_to,
        }
    )


def a_saga(command: CheckoutRequested | None = None) -> Saga:
    command = command or a_command()
    return Saga(command.saga, command, 1, datetime.now(UTC))


@dataclass
class StockInMemory:
    """Reservations as the real ones answer, by key; `available` are the units of each SKU."""

    available: dict[str, int] = field(default_factory=lambda: {"SKU-1": 10})
    held: dict[UUID, Reserve] = field(default_factory=dict)
    sold: dict[UUID, Reserve] = field(default_factory=dict)
    hold_seconds: float = 900.0
    answers: dict[str, Granted | Closed | Refused] = field(default_factory=dict)

    async def reserve(
        self, request: Reserve, strategy: Strategy, *, reservation: UUID | None = None
    ) -> Granted | Refused:
        answer = self.answers.get(request.key) or self._reserve(request, reservation or uuid4())
        self.answers[request.key] = answer
        assert isinstance(answer, Granted | Refused)
        return answer

    async def confirm(self, reservation: UUID, *, caller: str, key: str) -> Closed | Refused:
        return self._close(reservation, key, self.sold)

    async def release(self, reservation: UUID, *, caller: str, key: str) -> Closed | Refused:
        return self._close(reservation, key, {})

    def _reserve(self, request: Reserve, reservation: UUID) -> Granted | Refused:
        short = [
            Short(line.sku, line.quantity, self.available.get(line.sku, 0))
            for line in request.lines
            if self.available.get(line.sku, 0) < line.quantity
        ]
        if short:
            return Refused(Reason.INSUFFICIENT, tuple(short))
        for line in request.lines:
            self.available[line.sku] -= line.quantity
        self.held[reservation] = request
        until = datetime.now(UTC) + timedelta(seconds=self.hold_seconds)
        held = tuple(Held(line.sku, "W1", line.quantity, 2) for line in request.lines)
        return Granted(reservation, held, until)

    def _close(self, reservation: UUID, key: str, into: dict[UUID, Reserve]) -> Closed | Refused:
        if key in self.answers:
            answer = self.answers[key]
            assert isinstance(answer, Closed | Refused)
            return answer
        if reservation not in self.held:
            known = reservation in self.sold
            return Refused(Reason.CLOSED if known else Reason.UNKNOWN_RESERVATION)
        request = self.held.pop(reservation)
        into[reservation] = request
        if into is not self.sold:
            for line in request.lines:
                self.available[line.sku] += line.quantity
        self.answers[key] = Closed(reservation, {})
        return Closed(reservation, {})


@dataclass
class RowsInMemory:
    """Sagas as their rows are claimed and written; a pause is over at once."""

    rows: dict[UUID, Saga] = field(default_factory=dict)
    claimed: set[UUID] = field(default_factory=set)
    told: list[Ending] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    most_claimed: int = 0

    def add(self, saga: Saga) -> Saga:
        self.rows[saga.id] = saga
        return saga

    async def claim(self, most: int, *, claimed_by: str, lease_seconds: float) -> list[Saga]:
        free = [row for row in self.rows.values() if not row.ended and row.id not in self.claimed]
        taken = [replace(row, version=row.version + 1) for row in free[:most]]
        for saga in taken:
            self.rows[saga.id] = saga
            self.claimed.add(saga.id)
        self.most_claimed = max(self.most_claimed, len(self.claimed))
        return taken

    async def write(self, saga: Saga, *, pause_seconds: float, lease_seconds: float) -> Saga | None:
        if self.rows[saga.id].version != saga.version:
            return None
        event = ending(saga)
        if event is not None:
            self.told.append(event)
        if event is not None or pause_seconds:
            self.claimed.discard(saga.id)
        self.pauses.append(pause_seconds)
        self.rows[saga.id] = replace(saga, version=saga.version + 1, read_at=datetime.now(UTC))
        return self.rows[saga.id]

    async def give_back(self, saga: Saga) -> None:
        self.claimed.discard(saga.id)


#: Is told of each call, before and after: its key, which begins with the saga's id.
Watch = Callable[[str], Awaitable[None]]


async def _watched(watch: Watch, key: str, call: Awaitable[_T]) -> _T:
    await watch(key)
    answer = await call
    await watch(key)
    return answer


class WatchedStock:
    def __init__(self, stock: Stock, watch: Watch) -> None:
        self._stock, self._watch = stock, watch

    async def reserve(
        self, request: Reserve, strategy: Strategy, *, reservation: UUID | None = None
    ) -> Granted | Refused:
        call = self._stock.reserve(request, strategy, reservation=reservation)
        return await _watched(self._watch, request.key, call)

    async def confirm(self, reservation: UUID, *, caller: str, key: str) -> Closed | Refused:
        call = self._stock.confirm(reservation, caller=caller, key=key)
        return await _watched(self._watch, key, call)

    async def release(self, reservation: UUID, *, caller: str, key: str) -> Closed | Refused:
        call = self._stock.release(reservation, caller=caller, key=key)
        return await _watched(self._watch, key, call)


class WatchedPayment:
    def __init__(self, payment: Payment, watch: Watch) -> None:
        self._payment, self._watch = payment, watch

    async def charge(self, key: str, charge: Charge) -> Done | No:
        return await _watched(self._watch, key, self._payment.charge(key, charge))

    async def refund(self, key: str) -> Done | No:
        return await _watched(self._watch, key, self._payment.refund(key))


class WatchedShipping:
    def __init__(self, shipping: Shipping, watch: Watch) -> None:
        self._shipping, self._watch = shipping, watch

    async def ship(self, key: str, parcel: Parcel) -> Done | No:
        return await _watched(self._watch, key, self._shipping.ship(key, parcel))

    async def cancel(self, key: str) -> Done | No:
        return await _watched(self._watch, key, self._shipping.cancel(key))


class WatchedRows:
    """Rows whose intake, claims and writes are watched, too; a claim is everybody's."""

    def __init__(self, rows: Sagas, watch: Watch) -> None:
        self._rows, self._watch = rows, watch

    async def accept(self, command: CheckoutRequested) -> None:
        await _watched(self._watch, str(command.saga), self._rows.accept(command))

    async def claim(self, most: int, *, claimed_by: str, lease_seconds: float) -> list[Saga]:
        found = await self._rows.claim(most, claimed_by=claimed_by, lease_seconds=lease_seconds)
        for saga in found:
            await self._watch(str(saga.id))
        return found

    async def write(self, saga: Saga, *, pause_seconds: float, lease_seconds: float) -> Saga | None:
        call = self._rows.write(saga, pause_seconds=pause_seconds, lease_seconds=lease_seconds)
        return await _watched(self._watch, str(saga.id), call)

    async def give_back(self, saga: Saga) -> None:
        await self._rows.give_back(saga)
