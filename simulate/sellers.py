"""The real ways of selling, as a rush uses them."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from reservations.basket import Granted, Reason, Refused, Strategy
from reservations.flash.guard import FlashGuard
from reservations.service import Reservations
from simulate.buyers import Buyer, Told
from simulate.item import Item

#: A buyer who is told that others were quicker asks again for so many seconds.
PATIENCE_SECONDS = 60.0


async def ask(attempt: Callable[[], Awaitable[Granted | Refused]], patience: float) -> Told:
    """Ask, and ask again as long as the answer is that others were quicker."""
    until = time.monotonic() + patience
    asked = 0
    while True:
        asked += 1
        answer = await attempt()
        if isinstance(answer, Granted):
            return Told(granted=True, asked=asked)
        if answer.reason is not Reason.CONFLICT or time.monotonic() > until:
            return Told(granted=False, reason=answer.reason, asked=asked)
        # Whoever else is ready comes first, also when an answer needed no server.
        await asyncio.sleep(0)


class ReservationSeller:
    """Sells through `Reservations` by one strategy."""

    def __init__(self, reservations: Reservations, item: Item, strategy: Strategy) -> None:
        """Sell one item."""
        self._reservations = reservations
        self._item = item
        self._strategy = strategy

    @property
    def retries(self) -> int:
        """Attempts that were made again inside."""
        return self._reservations.tally.retries

    async def sell(self, buyer: Buyer) -> Told:
        """Reserve one unit; raises Outage as `Reservations.reserve`."""
        request = self._item.request(buyer)
        return await ask(
            lambda: self._reservations.reserve(request, self._strategy), PATIENCE_SECONDS
        )


class FlashSeller:
    """Sells from a flash sale, through the guard in which buyers stand in line."""

    retries = 0

    def __init__(self, guard: FlashGuard, item: Item) -> None:
        """Sell one item, whose sale is open."""
        self._guard = guard
        self._item = item

    async def sell(self, buyer: Buyer) -> Told:
        """Reserve one unit; raises Outage as `FlashGuard.reserve`."""
        request = self._item.request(buyer)
        return await ask(lambda: self._guard.reserve(request), PATIENCE_SECONDS)
