"""The guard of a flash sale: buyers of one hot row stand in line, and none of them for long."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from inventory.errors import Outage
from reservations.basket import Granted, Reason, Refused, Reserve, Short

#: Seconds that a buyer waits for units to come back, unless said.
PATIENCE_SECONDS = 2.0
#: Buyers in one line; who comes later is told to ask again.
LONGEST_LINE = 20_000
#: Buyers that are asked for in one round trip.
_AT_ONCE = 64
#: Seconds after which the first in line asks again.
_INTERVAL_SECONDS = 0.02


@dataclass(slots=True)
class _Buyer:
    request: Reserve
    until: float
    answer: asyncio.Future[Granted | Refused]


@dataclass(slots=True)
class _Line:
    buyers: deque[_Buyer] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class FlashGuard:
    """A line for each SKU, first come, first served, within this process.

    Units that come back go to whoever waits longest. As soon as it is true that nothing is left and
    nothing can come back, everybody in line is told SOLD_OUT.

    Args:
        reserve_all: `FlashSales.reserve_all`.
        patience_seconds: the longest that a buyer waits; INSUFFICIENT afterwards.
        longest_line: buyers in one line; further ones get CONFLICT at once: ask again.
    """

    def __init__(
        self,
        reserve_all: Callable[[Sequence[Reserve]], Awaitable[Sequence[Granted | Refused | None]]],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        longest_line: int = LONGEST_LINE,
    ) -> None:
        self._reserve_all = reserve_all
        self._patience = patience_seconds
        self._longest = longest_line
        self._lines: dict[str, _Line] = {}

    async def reserve(self, request: Reserve) -> Granted | Refused:
        """Stand in line and buy; within the patience, and a round trip or two.

        Raises:
            ValueError: the basket has several lines.
            Outage: Redis or Postgres takes no work; everybody in the same round trip is told so.
        """
        if len(request.lines) != 1:
            raise ValueError("a flash sale sells one SKU at a time")
        loop = asyncio.get_running_loop()
        sku = request.lines[0].sku
        line = self._lines.setdefault(sku, _Line())
        if len(line.buyers) >= self._longest:
            return Refused(Reason.CONFLICT)
        buyer = _Buyer(request, loop.time() + self._patience, loop.create_future())
        line.buyers.append(buyer)
        if line.task is None:
            line.task = loop.create_task(self._serve(sku, line))
        return await buyer.answer

    async def _serve(self, sku: str, line: _Line) -> None:
        """Serve a line until nobody stands in it."""
        group: list[_Buyer] = []
        try:
            while line.buyers:
                group = _first(line)
                if not group:
                    continue
                try:
                    answers = await self._reserve_all([buyer.request for buyer in group])
                except Outage as outage:
                    for buyer in group:
                        if not buyer.answer.done():
                            buyer.answer.set_exception(outage)
                    continue
                left = _answer(line, group, answers)
                group = []
                if left is not None and not _dismiss(line, left):
                    # Its timer, not a guess: what comes back is not announced.
                    await asyncio.sleep(_INTERVAL_SECONDS)
        finally:
            del self._lines[sku]
            for buyer in [*group, *line.buyers]:
                buyer.answer.cancel()


def _first(line: _Line) -> list[_Buyer]:
    """Take those out whose turn it is; who has gone away is left out."""
    taken = [line.buyers.popleft() for _ in range(min(_AT_ONCE, len(line.buyers)))]
    return [buyer for buyer in taken if not buyer.answer.done()]


def _answer(
    line: _Line, group: Sequence[_Buyer], answers: Sequence[Granted | Refused | None]
) -> int | None:
    """Answer those who have an answer; the others are first in line again.

    Returns:
        The units that there are, if the first in line has to wait for more.
    """
    left = None
    waiting = []
    for buyer, answer in zip(group, answers, strict=True):
        if answer is None:
            waiting.append(buyer)
        elif isinstance(answer, Refused) and answer.reason is Reason.INSUFFICIENT:
            left = answer.short[0].available
            waiting.append(buyer)
        elif not buyer.answer.done():
            buyer.answer.set_result(answer)
    line.buyers.extendleft(reversed(waiting))
    return left


def _dismiss(line: _Line, left: int) -> bool:
    """Tell those whose patience is over; whether there were any. They are the first in line."""
    now = asyncio.get_running_loop().time()
    dismissed = False
    while line.buyers and line.buyers[0].until <= now:
        buyer = line.buyers.popleft()
        (asked,) = buyer.request.lines
        if not buyer.answer.done():
            short = Short(asked.sku, asked.quantity, left)
            buyer.answer.set_result(Refused(Reason.INSUFFICIENT, (short,)))
        dismissed = True
    return dismissed
