"""What a strategy is, and what it is given."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from reservations.basket import Granted, Refused, Reserve, Strategy
from reservations.trying import Tally


class Locking(StrEnum):
    """What the pessimistic strategy does about rows that others have locked."""

    #: Waits for them, as long as the patience lasts.
    TIMEOUT = "timeout"
    #: Gives way at once, and tries again.
    NOWAIT = "nowait"
    #: Takes from other warehouses, where those have enough.
    SKIP_LOCKED = "skip_locked"


@dataclass(frozen=True, slots=True)
class Order:
    """A request and how to meet it.

    Attributes:
        reservation: the id that it gets if it is granted.
        strategy: noted in the reservation.
        patience_seconds: how long to go on against others.
        tally: counts what is tried again.
    """

    request: Reserve
    reservation: UUID
    strategy: Strategy
    locking: Locking = Locking.TIMEOUT
    patience_seconds: float = 5.0
    tally: Tally = field(default_factory=Tally)


class Taker(Protocol):
    """Takes a basket, all of it or nothing, in one transaction with all that speaks of it."""

    async def __call__(self, pool: AsyncConnectionPool, order: Order) -> Granted | Refused:
        """The answer, kept under the request's key unless it is CONFLICT.

        Raises:
            psycopg.Error: Postgres takes no work.
        """
        ...
