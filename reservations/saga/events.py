"""`checkout.completed` and `checkout.failed`: how a saga ended, told once through the outbox."""

from typing import Any, TypeAlias
from uuid import UUID, uuid5

from reservations.events import Event, Missing, outbox_row
from reservations.saga.machine import Saga, Status, Step

#: The aggregate; its topic is `stockwire.events.checkout`.
CHECKOUT = "checkout"

_NO_ROW = ("event_id", "aggregatetype", "aggregateid", "type", "payload")


class CheckoutEvent(Event):
    """How a checkout ended; `command` is the id that `checkout.requested` came with."""

    aggregate = CHECKOUT

    saga: UUID
    command: UUID

    @property
    def aggregate_id(self) -> str:
        """The saga."""
        return str(self.saga)


class CheckoutCompleted(CheckoutEvent):
    """The units have left, are paid for and on their way."""

    type = "checkout.completed"

    reservation: UUID
    payment: str
    shipment: str


class CheckoutFailed(CheckoutEvent):
    """Nothing is held, paid for or sent any more; `step` went wrong, and `reason` says why.

    `short` are the lines that could not be had, where that is why.
    """

    type = "checkout.failed"

    step: Step
    reason: str
    short: tuple[Missing, ...] = ()


Ending: TypeAlias = CheckoutCompleted | CheckoutFailed


def ending(saga: Saga) -> Ending | None:
    """What is to be told of a saga that has ended; None while it has not."""
    step, records = saga.failed_step, saga.records
    who: dict[str, Any] = {
        "occurred_at": saga.read_at,
        "caller": saga.command.caller,
        "reference": saga.command.reference,
        "saga": saga.id,
        "command": saga.command.id,
    }
    if saga.status is Status.COMPLETED:
        return CheckoutCompleted(
            **who,
            reservation=records[Step.RESERVE].facts["reservation"],
            payment=records[Step.PAY].facts["number"],
            shipment=records[Step.SHIP].facts["number"],
        )
    if saga.status is not Status.FAILED or step is None:
        return None
    short = tuple(
        Missing(sku=sku, wanted=wanted, available=available)
        for sku, wanted, available in records[step].facts.get("short", ())
    )
    return CheckoutFailed(**who, step=step, reason=records[step].reason or "unknown", short=short)


def outbox_columns(event: Ending | None) -> dict[str, Any]:
    """What the query `write_saga` takes: one row for each saga and type, or nulls for none."""
    if event is None:
        return dict.fromkeys(_NO_ROW)
    return {"event_id": uuid5(event.saga, event.type), **outbox_row(event)}
