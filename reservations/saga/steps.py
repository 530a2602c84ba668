"""Does one step of a saga, or undoes it, through the ports: with a timeout, and tried again."""

import asyncio
from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import TypeAlias

from stamina import retry_context

from inventory.errors import Outage
from reservations.basket import Granted, Reason, Refused, Reserve
from reservations.saga.machine import (
    Action,
    AskAgain,
    Declined,
    Do,
    NoAnswer,
    Outcome,
    Saga,
    Step,
    Undo,
    Worked,
)
from reservations.saga.ports import Charge, Done, No, Parcel, Payment, Shipping, Stock

#: Who the changes of stock are attributed to; its idempotency keys are its own.
CALLER = "checkout"

#: Answers to a release that say that nothing is held: it never was, or was let go before. It cannot
#: have been confirmed, as nothing is undone after that.
_NOTHING_HELD = frozenset({Reason.UNKNOWN_RESERVATION, Reason.EXPIRED, Reason.CLOSED})

#: Growing pauses between tries, in seconds.
_FIRST_WAIT, _LONGEST_WAIT, _JITTER = 0.1, 1.0, 0.1

_Perform: TypeAlias = Callable[[Saga], Awaitable[Outcome]]


class Steps:
    """The ports behind the steps; each call is bound to a key, so that any may be repeated."""

    def __init__(
        self,
        stock: Stock,
        payment: Payment,
        shipping: Shipping,
        *,
        timeout_seconds: float = 8.0,
        tries: int = 2,
    ) -> None:
        """Work with these ports, which their owner closes.

        Args:
            stock: the reservations.
            payment: takes the money.
            shipping: sends the parcel.
            timeout_seconds: after which a call counts as not answered.
            tries: calls that are made before an attempt counts as in vain.
        """
        self._stock = stock
        self._payment = payment
        self._shipping = shipping
        self._timeout = timeout_seconds
        self._tries = tries
        self._calls: MappingProxyType[Action, _Perform] = MappingProxyType(
            {
                Do(Step.RESERVE): self._reserve,
                Do(Step.PAY): self._pay,
                Do(Step.SHIP): self._ship,
                Do(Step.CONFIRM): self._confirm,
                Undo(Step.SHIP): self._cancel,
                Undo(Step.PAY): self._refund,
                Undo(Step.RESERVE): self._release,
            }
        )

    @property
    def longest_seconds(self) -> float:
        """The longest that `perform` may take; a claim must last longer."""
        return self._tries * self._timeout + (self._tries - 1) * (_LONGEST_WAIT + _JITTER)

    async def perform(self, saga: Saga, action: Do | Undo) -> Outcome:
        """Do it, and say what came of it; an outage is an outcome too."""
        call = self._calls[action]
        try:
            async for attempt in retry_context(
                on=Outage,
                attempts=self._tries,
                timeout=None,
                wait_initial=_FIRST_WAIT,
                wait_max=_LONGEST_WAIT,
                wait_jitter=_JITTER,
            ):
                with attempt:
                    return await self._in_time(call(saga))
        except Outage as outage:
            return NoAnswer(str(outage))
        raise AssertionError("a retry that neither returns nor raises")

    async def _in_time(self, call: Awaitable[Outcome]) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except TimeoutError as exc:
            raise Outage(f"There was no answer within {self._timeout:g} s.") from exc

    async def _reserve(self, saga: Saga) -> Outcome:
        command = saga.command
        request = Reserve(
            caller=CALLER,
            key=saga.key(Step.RESERVE),
            reference=command.reference,
            lines=command.basket(),
            hold_seconds=command.hold_seconds,
            sourcing=command.sourcing,
        )
        answer = await self._stock.reserve(request, command.strategy, reservation=saga.id)
        if isinstance(answer, Granted):
            return Worked(
                {
                    "reservation": str(answer.reservation),
                    "held_until": answer.held_until.isoformat(),
                    "held": [
                        [held.sku, held.warehouse, held.quantity, held.version]
                        for held in answer.held
                    ],
                }
            )
        if answer.reason is Reason.CONFLICT:
            return AskAgain(answer.reason)
        short = [[line.sku, line.wanted, line.available] for line in answer.short]
        return Declined(answer.reason, {"short": short})

    async def _confirm(self, saga: Saga) -> Outcome:
        answer = await self._stock.confirm(saga.id, caller=CALLER, key=saga.key(Step.CONFIRM))
        if not isinstance(answer, Refused):
            versions = [[*place, version] for place, version in answer.versions.items()]
            return Worked({"versions": versions})
        if answer.reason is Reason.CONFLICT:
            return AskAgain(answer.reason)
        return Declined(answer.reason)

    async def _release(self, saga: Saga) -> Outcome:
        key = saga.key(Step.RESERVE, undo=True)
        answer = await self._stock.release(saga.id, caller=CALLER, key=key)
        if not isinstance(answer, Refused) or answer.reason in _NOTHING_HELD:
            return Worked()
        return AskAgain(answer.reason)

    async def _pay(self, saga: Saga) -> Outcome:
        command = saga.command
        charge = Charge(
            command.amount_minor, command.currency, command.payment_method, command.reference
        )
        return _outcome(await self._payment.charge(saga.key(Step.PAY), charge))

    async def _refund(self, saga: Saga) -> Outcome:
        return _outcome(await self._payment.refund(saga.key(Step.PAY)), "refund")

    async def _ship(self, saga: Saga) -> Outcome:
        command = saga.command
        lines = tuple((line.sku, line.quantity) for line in command.lines)
        parcel = Parcel(lines, command.ship_to, command.reference)
        return _outcome(await self._shipping.ship(saga.key(Step.SHIP), parcel))

    async def _cancel(self, saga: Saga) -> Outcome:
        return _outcome(await self._shipping.cancel(saga.key(Step.SHIP)), "cancellation")


def _outcome(answer: Done | No, fact: str = "number") -> Outcome:
    return Declined(answer.reason) if isinstance(answer, No) else Worked({fact: answer.number})
