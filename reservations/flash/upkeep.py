"""Keeps Redis and Postgres at one: what was granted is settled, what is lost is rebuilt."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from inventory.errors import InvalidEvent, Outage
from reservations.flash.counter import CLOSED_SECONDS, Counters, Head, Standing
from reservations.flash.grant import Grant, Sale, Verdict, decode_grant
from reservations.flash.ledger import Ledger

log = structlog.stdlib.get_logger(__name__)

#: Holds that one sweep of a sale looks at.
_SWEPT_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Drift:
    """How a counter differs from Postgres, compared while nothing could move between the two.

    Attributes:
        lost: there is no counter, or it is of another epoch, or it has lost grants.
        left: units that it would still grant.
        expected: units that it may grant; more than these would be promised twice.
        missing: live holds that it does not know: their units would not come back.
        untold: holds that Postgres has ended and that it has not been told of yet. These are on
            their way, and no drift.
        unsettled: holds that Postgres has not been told of yet; no drift either.
    """

    sku: str
    lost: bool
    left: int
    expected: int
    missing: tuple[UUID, ...]
    untold: tuple[UUID, ...]
    unsettled: int

    @property
    def sound(self) -> bool:
        """Whether both say the same."""
        return not (self.lost or self.missing or self.left != self.expected)


class Upkeep:
    """What holds the sales' counters and their rows in Postgres together.

    Raises (all methods):
        Outage: Redis or Postgres takes no work.
    """

    def __init__(self, ledger: Ledger, counters: Counters) -> None:
        self._ledger = ledger
        self._counters = counters

    async def rebuild(self, sku: str, *, overdrawn: int | None = None) -> Sale | None:
        """Begin another epoch from what Postgres knows, if the counter is lost.

        The row of the sale is locked meanwhile: of several that notice it, one does it, and nothing
        is settled between what is read and what is written. A grant that Postgres does not know
        is gone, unless its record turns up and units are left.

        Args:
            sku: whose.
            overdrawn: the epoch in which more was granted than there was; it ends in any case.

        Returns:
            The open sale; None if there is none.
        """
        sale = await self._ledger.latest(sku)
        if sale is None or sale.closed:
            return None
        async with self._ledger.locked(sale.id) as book:
            if book.sale.closed:
                return None
            (head,) = await self._counters.heads([sku])
            if not is_lost(book.sale, head) and book.sale.epoch != overdrawn:
                return book.sale
            # Redis may be ahead: it was told, and then the transaction was not committed.
            stored = head.epoch if head is not None else 0
            await book.raise_epoch(max(book.sale.epoch, stored) + 1)
            await self._counters.install(book.sale, await book.live_holds(), await book.answered())
        log.info("a flash sale's counter was built", sku=sku, epoch=book.sale.epoch)
        return book.sale

    async def settle(self, sale: Sale, grants: Sequence[Grant]) -> Sequence[Grant]:
        """Write grants into Postgres, each once; those that need not be seen again.

        A grant of an earlier epoch goes back to Redis, which grants it once more if units are left:
        it then comes again, as a grant of this epoch.
        """
        async with self._ledger.locked(sale.id) as book:
            verdict = await book.settle(grants)
        sale = book.sale
        _tell(sale, verdict)
        duplicates = [grant.reservation for grant in verdict.duplicate]
        await self._counters.give_back(sale.sku, sale.id, duplicates)
        if verdict.overdrawn:
            sale = await self.rebuild(sale.sku, overdrawn=sale.epoch) or sale
        finished = [*verdict.settle, *verdict.known, *verdict.gone, *verdict.duplicate]
        for grant in [*verdict.late, *verdict.overdrawn]:
            word = await self._counters.regrant(sale, grant)
            if word == "lost":
                continue
            if word == "gone":
                log.warning(
                    "a grant of a lost counter has no units left; it cannot be confirmed",
                    sku=sale.sku,
                    reservation=str(grant.reservation),
                )
            finished.append(grant)
        return finished

    async def settle_one(self, reservation: UUID) -> tuple[str, int] | None:
        """Settle a hold that may still be in the stream; SKU and id of its sale.

        Returns:
            None if it is not of a flash sale, or if it was lost.
        """
        sale = await self._ledger.sale_of(reservation)
        if sale is not None:
            return sale
        sales = {sale.sku: sale for sale in await self._ledger.current(0) if not sale.closed}
        found = await self._counters.find(list(sales), reservation)
        if found is None:
            return None
        sku, record = found
        await self.settle(sales[sku], [decode_grant(record)])
        return await self._ledger.sale_of(reservation)

    async def tell(self, sku: str, sale: int, reservations: Sequence[UUID], *, back: bool) -> None:
        """Tell Redis of holds that Postgres has ended; if it is away, a sweep does it later.

        Args:
            sku: of the sale.
            sale: its id.
            reservations: those that have ended.
            back: the sale has their units again.
        """
        end = self._counters.give_back if back else self._counters.forget
        try:
            await end(sku, sale, reservations)
        except Outage as outage:
            # What was asked for is done.
            log.warning("Redis is told later of holds that have ended", outage=str(outage))

    async def check(self) -> Sequence[Sale]:
        """Rebuild the counters that are lost, close those that are closed; the open sales."""
        sales = await self._ledger.current(CLOSED_SECONDS)
        if not sales:
            await self._counters.ping()
        # Behind Postgres: the counter can only have gone on since.
        heads = await self._counters.heads([sale.sku for sale in sales])
        still_open = []
        for sale, head in zip(sales, heads, strict=True):
            if not sale.closed:
                if is_lost(sale, head):
                    await self.rebuild(sale.sku)
                still_open.append(sale)
            elif head is not None and head.sale == sale.id and head.open:
                await self._counters.close(sale, remove=True)
        return still_open

    async def sweep(self, sale: Sale) -> None:
        """Bring holds to their end that are due in Redis, and that nobody told it of."""
        due = await self._counters.due(sale.sku, _SWEPT_AT_ONCE)
        if not due:
            return
        ended = await self._ledger.ended(due)
        records = await self._counters.records(
            sale.sku, [reservation for reservation in due if reservation not in ended]
        )
        if records:
            await self.settle(sale, decoded(records))
        await self._tell_ended(sale, {each: ended.get(each) for each in due})

    async def reconcile(self, sku: str, *, mend: bool = False) -> Drift | None:
        """Compare a counter with Postgres; None if no sale is open.

        Args:
            sku: whose.
            mend: tell Redis what it was not told, and rebuild a counter that has drifted.
        """
        sale = await self._ledger.latest(sku)
        if sale is None or sale.closed:
            return None
        async with self._ledger.locked(sale.id) as book:
            sale = book.sale
            standing = await self._counters.standing(sku)
            live = {grant.reservation for grant in await book.live_holds()}
            ended = await book.ended(list(standing.holds)) if standing else {}
        drift = compare(sale, standing, live, ended)
        if mend and standing is not None:
            await self._tell_ended(sale, ended)
        if not drift.sound:
            log.error("a flash sale's counter has drifted", drift=str(drift))
            if mend:
                await self.rebuild(sku, overdrawn=sale.epoch)
        return drift

    async def _tell_ended(self, sale: Sale, ended: Mapping[UUID, str | None]) -> None:
        back = [hold for hold, where in ended.items() if where == "back"]
        gone = [hold for hold, where in ended.items() if where in ("sold", "freed")]
        await self._counters.give_back(sale.sku, sale.id, back)
        await self._counters.forget(sale.sku, sale.id, gone)


def is_lost(sale: Sale, head: Head | None) -> bool:
    """Whether a counter is not the one of the sale's epoch, or knows of fewer grants."""
    return (
        head is None
        or (head.sale, head.epoch) != (sale.id, sale.epoch)
        or head.sequence < sale.sequence
        or head.open == sale.closed
    )


def compare(
    sale: Sale,
    standing: Standing | None,
    live: Collection[UUID],
    ended: Mapping[UUID, str | None],
) -> Drift:
    """Where a counter and its sale differ. Pure.

    Args:
        sale: in Postgres.
        standing: the counter at the same moment.
        live: holds that Postgres has and that have not ended.
        ended: of the counter's holds those that Postgres knows, and where their units went.
    """
    if standing is None:
        return Drift(sale.sku, True, 0, sale.unsold, tuple(live), (), 0)
    unsettled = sum(units for hold, units in standing.holds.items() if hold not in ended)
    coming = sum(units for hold, units in standing.holds.items() if ended.get(hold) == "back")
    return Drift(
        sku=sale.sku,
        lost=is_lost(sale, standing.head),
        left=standing.left,
        expected=sale.unsold - unsettled - coming,
        missing=tuple(hold for hold in live if hold not in standing.holds),
        untold=tuple(hold for hold in standing.holds if ended.get(hold) is not None),
        unsettled=unsettled,
    )


def decoded(records: Sequence[bytes]) -> Sequence[Grant]:
    """The grants of records; one that nobody can read is told of, and left out."""
    grants = []
    for record in records:
        try:
            grants.append(decode_grant(record))
        except InvalidEvent as exc:
            log.exception("a record in a flash sale is left out", problem=str(exc))
    return grants


def _tell(sale: Sale, verdict: Verdict) -> None:
    for grant in verdict.overdrawn:
        log.error(
            "Redis has granted what Postgres has not; its counter is rebuilt",
            sku=sale.sku,
            reservation=str(grant.reservation),
        )
    for grant in [*verdict.gone, *verdict.duplicate]:
        log.warning(
            "a grant is not settled: its sale is over, or its key was used",
            sku=sale.sku,
            reservation=str(grant.reservation),
        )
