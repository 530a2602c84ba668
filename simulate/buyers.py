"""Buyers who all want the same thing, planned from a seed, and what became of each."""

import asyncio
import time
from dataclasses import dataclass
from random import Random
from typing import Protocol

from reservations.basket import Reason


@dataclass(frozen=True, slots=True)
class Buyer:
    """Somebody who wants one unit; `arrives` is in seconds after the doors have opened."""

    number: int
    arrives: float


@dataclass(frozen=True, slots=True)
class Rush:
    """So many buyers for so few units.

    Attributes:
        within: they arrive at even odds within so many seconds; 0 is all at once.
        seed: the same seed gives the same arrivals.
    """

    buyers: int
    units: int
    within: float = 0.5
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse what is no rush.

        Raises:
            ValueError: there is no buyer or no unit, or seconds are negative.
        """
        if self.buyers < 1 or self.units < 1 or self.within < 0:
            raise ValueError("a rush has at least 1 buyer and 1 unit, and no seconds below 0")

    def plan(self) -> tuple[Buyer, ...]:
        """The buyers in the order of their arrival."""
        random = Random(self.seed)
        times = [random.random() * self.within for _ in range(self.buyers)]
        order = sorted(range(self.buyers), key=lambda number: (times[number], number))
        return tuple(Buyer(number, times[number]) for number in order)


@dataclass(frozen=True, slots=True)
class Told:
    """What a buyer was told in the end; `asked` is how often the buyer had to ask."""

    granted: bool
    reason: Reason | None = None
    asked: int = 1


class Seller(Protocol):
    """A way of selling single units of one SKU."""

    @property
    def retries(self) -> int:
        """Attempts that were made again inside, because others had been quicker."""

    async def sell(self, buyer: Buyer) -> Told:
        """Sell a unit to a buyer, or do not.

        Raises:
            Outage: a server does not answer.
        """


@dataclass(frozen=True, slots=True)
class Visit:
    """One buyer's visit; `arrived` and `answered` are in seconds of the monotonic clock."""

    buyer: Buyer
    arrived: float
    answered: float
    told: Told


async def let_in(plan: tuple[Buyer, ...], seller: Seller) -> list[Visit]:
    """Let all of them in as planned; their visits in the order in which they arrived.

    Raises:
        Outage: a server does not answer; everybody else is sent home first.
    """
    visits: list[Visit] = []
    opened = time.monotonic()

    async def visit(buyer: Buyer) -> None:
        # The plan's own time, not a wait for something to happen.
        await asyncio.sleep(max(0.0, opened + buyer.arrives - time.monotonic()))
        arrived = time.monotonic()
        told = await seller.sell(buyer)
        visits.append(Visit(buyer, arrived, time.monotonic(), told))

    try:
        async with asyncio.TaskGroup() as group:
            for buyer in plan:
                group.create_task(visit(buyer))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return sorted(visits, key=lambda visit: visit.arrived)
