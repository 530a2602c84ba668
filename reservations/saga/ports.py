"""What a checkout needs of others: stock, a payment service, a shipping service."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from reservations.basket import Closed, Granted, Refused, Reserve, Strategy


class Stock(Protocol):
    """As `reservations.service.Reservations` does it: the same key has the same answer.

    Raises (all methods):
        Outage: nobody knows whether it was done.
    """

    async def reserve(
        self, request: Reserve, strategy: Strategy, *, reservation: UUID | None = None
    ) -> Granted | Refused:
        """Hold all of it or nothing."""
        ...

    async def confirm(self, reservation: UUID, *, caller: str, key: str) -> Closed | Refused:
        """The units leave."""
        ...

    async def release(self, reservation: UUID, *, caller: str, key: str) -> Closed | Refused:
        """The units are free again."""
        ...


@dataclass(frozen=True, slots=True)
class Charge:
    """What is to be paid, by whom and for what."""

    amount_minor: int
    currency: str
    method: str
    reference: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to be sent, where and for what order."""

    lines: tuple[tuple[str, int], ...]
    ship_to: str
    reference: str


@dataclass(frozen=True, slots=True)
class Done:
    """It is done; `number` is what the service calls it."""

    number: str


@dataclass(frozen=True, slots=True)
class No:
    """It is not done, and asking again under this key changes nothing."""

    reason: str


class Payment(Protocol):
    """Takes money once per key, and gives it back.

    Raises (all methods):
        Outage: nobody knows whether it was done; ask again under the same key.
    """

    async def charge(self, key: str, charge: Charge) -> Done | No:
        """Take the money, unless this key was refunded before."""
        ...

    async def refund(self, key: str) -> Done | No:
        """Give back what was charged under this key.

        Also where nothing was: then nothing can be charged under it any more. A charge that was
        sent before, and arrives after this, must come to nothing.
        """
        ...


class Shipping(Protocol):
    """Sends a parcel once per key, and calls it off.

    Raises (all methods):
        Outage: nobody knows whether it was done; ask again under the same key.
    """

    async def ship(self, key: str, parcel: Parcel) -> Done | No:
        """Have the parcel sent, unless this key was called off before."""
        ...

    async def cancel(self, key: str) -> Done | No:
        """Call off what was to be sent under this key; nothing can be sent under it any more."""
        ...
