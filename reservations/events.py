"""What leaves through the outbox, in the transaction of the change that it speaks of.

Where only the statement knows the versions of the rows, Postgres writes the payload (see
sql/queries/reservations.sql); tests hold what it writes against these models.
"""

from abc import abstractmethod
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from inventory.errors import InvalidEvent
from reservations.basket import Reason, Strategy

#: The aggregates, each of them a topic `stockwire.events.<aggregate>`.
RESERVATION, STOCK = "reservation", "stock"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Units(_Part):
    """Units of one row of stock, and the row's version after the change."""

    sku: str
    warehouse: str
    quantity: int
    row_version: int


class Missing(_Part):
    """A line that could not be had, and how many units there were."""

    sku: str
    wanted: int
    available: int


class Event(_Part):
    """A business event.

    Attributes:
        version: of this form of the event: what is added keeps it, what is changed raises it.
        caller: who caused it.
        reference: the document behind it, such as the order.
    """

    type: ClassVar[str]
    aggregate: ClassVar[str]

    version: Literal[1] = 1
    occurred_at: datetime
    caller: str
    reference: str

    @property
    @abstractmethod
    def aggregate_id(self) -> str:
        """The key of its record in Kafka."""


class ReservationEvent(Event):
    """What became of a reservation."""

    aggregate = RESERVATION

    reservation: UUID

    @property
    def aggregate_id(self) -> str:
        """The reservation."""
        return str(self.reservation)


class Reserved(ReservationEvent):
    """All of a basket is held."""

    type = "inventory.reserved"

    strategy: Strategy
    held_until: datetime
    units: tuple[Units, ...]


class ReservationFailed(ReservationEvent):
    """Nothing of a basket is held; `reservation` is the id that it would have had."""

    type = "inventory.reservation.failed"

    reason: Reason
    short: tuple[Missing, ...] = ()


class Confirmed(ReservationEvent):
    """What was held has left."""

    type = "inventory.confirmed"

    units: tuple[Units, ...]


class Released(ReservationEvent):
    """What was held is free again, because somebody said so."""

    type = "inventory.released"

    units: tuple[Units, ...]


class Expired(ReservationEvent):
    """What was held is free again, because its time was over."""

    type = "inventory.expired"

    units: tuple[Units, ...]


class StockEvent(Event):
    """Units came, went or moved."""

    aggregate = STOCK

    sku: str

    @property
    def aggregate_id(self) -> str:
        """The SKU."""
        return self.sku


class Adjusted(StockEvent):
    """Units were counted in or out; `on_hand` is what there is now."""

    type = "stock.adjusted"

    warehouse: str
    delta: int
    on_hand: int
    row_version: int
    reason: str


class Transferred(StockEvent):
    """Units were moved from one warehouse to another; the versions are those of both rows."""

    type = "stock.transferred"

    source: str
    target: str
    quantity: int
    source_version: int
    target_version: int


#: The model of each type.
EVENTS: MappingProxyType[str, type[Event]] = MappingProxyType(
    {
        Reserved.type: Reserved,
        ReservationFailed.type: ReservationFailed,
        Confirmed.type: Confirmed,
        Released.type: Released,
        Expired.type: Expired,
        Adjusted.type: Adjusted,
        Transferred.type: Transferred,
    }
)


def outbox_row(event: Event) -> dict[str, Any]:
    """The columns of `inventory.outbox`, as the query `outbox_add` takes them."""
    return {
        "aggregatetype": event.aggregate,
        "aggregateid": event.aggregate_id,
        "type": event.type,
        "payload": event.model_dump_json().encode(),
    }


def read_event(type_: str, payload: bytes) -> Event:
    """An event as it was written.

    Raises:
        InvalidEvent: there is no such type.
        pydantic.ValidationError: the payload is not of that type.
    """
    model = EVENTS.get(type_)
    if model is None:
        raise InvalidEvent(f"{type_!r} is none of {', '.join(sorted(EVENTS))}.")
    return model.model_validate_json(payload)
