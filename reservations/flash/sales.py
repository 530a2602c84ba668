"""Flash sales for those who sell and those who buy."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID, uuid4

import structlog
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis

from inventory.errors import Outage
from reservations.basket import Closed, Granted, Held, Reason, Refused, Reserve, Short
from reservations.flash.counter import Bid, Counters, Replies, Reply
from reservations.flash.grant import Asked, Sale
from reservations.flash.ledger import Ledger, LetGo
from reservations.flash.upkeep import Drift, Upkeep, decoded
from reservations.idempotency import digest_of
from reservations.service import Reservations
from reservations.trying import Conflicted

log = structlog.stdlib.get_logger(__name__)


class FlashSales:
    """The strategy `redis`: units that Postgres has set aside are handed out by Redis.

    `reserve`, `confirm`, `release` and `expire_due` are those of `Reservations`, for the
    reservations of this strategy; all others are passed on. A `reserve` costs one round trip to
    Redis. What it grants is in Postgres when a `Settler` has been there, and at the latest when it
    is confirmed or released.

    Raises (all methods):
        Outage: Redis or Postgres takes no work; what was asked for may have been done: ask again
            under the same key.
    """

    def __init__(
        self, pool: AsyncConnectionPool, redis: Redis, *, reservations: Reservations | None = None
    ) -> None:
        """Work with connections that somebody else closes.

        Args:
            pool: as `open_pool` makes it.
            redis: a client with `decode_responses=False`.
            reservations: closes what is in Postgres; one on the same pool if none.
        """
        self._reservations = reservations or Reservations(pool)
        self._ledger = Ledger(pool)
        self._counters = Counters(redis)
        self.upkeep = Upkeep(self._ledger, self._counters)
        #: The latest epoch that was seen of each SKU: Redis may come back with an older one.
        self._epochs: dict[str, int] = {}
        self._rebuilding: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(
        self, sku: str, warehouse: str, units: int, *, caller: str, reference: str
    ) -> Sale | Refused:
        """Set units of a row of stock aside, and have Redis sell them.

        Returns:
            The sale; or INSUFFICIENT or UNKNOWN_SKU, or CONFLICT where a sale of the SKU is open.

        Raises:
            ValueError: the number of units is not above 0.
        """
        if units <= 0:
            raise ValueError(f"a sale has at least one unit, not {units}")
        sale = await self._ledger.open(sku, warehouse, units, caller=caller, reference=reference)
        if isinstance(sale, Refused):
            return sale
        return await self.upkeep.rebuild(sku) or sale

    async def close(self, sku: str, *, caller: str) -> int | Refused:
        """End a sale; how many units were not sold and are free again.

        Holds stay what they are: they may be confirmed until they are due.

        Returns:
            CLOSED if the last sale is closed already, UNKNOWN_SKU if there was none.
        """
        sale = await self._ledger.latest(sku)
        if sale is None:
            return Refused(Reason.UNKNOWN_SKU)
        async with self._ledger.locked(sale.id, with_stock=True) as book:
            if book.sale.closed:
                return Refused(Reason.CLOSED)
            # From here on nothing is granted, and all that was granted is among these.
            records = await self._counters.close(book.sale, remove=False)
            await book.settle(decoded(records))
            freed = await book.close(caller)
        try:
            await self._counters.close(sale, remove=True)
        except Outage as outage:
            log.warning("what a closed sale leaves in Redis stays there", outage=str(outage))
        return freed

    async def reserve(self, request: Reserve) -> Granted | Refused:
        """Hold the units of a basket of one line.

        INSUFFICIENT means that units may come back, SOLD_OUT that none will. Neither is kept under
        the key: whoever asks again may be granted.

        Raises:
            ValueError: the basket has several lines.
        """
        (answer,) = await self.reserve_all([request])
        assert answer is not None, "only those behind another one wait"
        return answer

    async def reserve_all(self, requests: Sequence[Reserve]) -> Sequence[Granted | Refused | None]:
        """Hold the units of baskets of the same SKU, first come, first served. One round trip.

        Returns:
            An answer to each; None to those behind one that was INSUFFICIENT, and were not tried.

        Raises:
            ValueError: a basket has several lines, or another SKU.
        """
        skus = {line.sku for request in requests for line in request.lines}
        if len(skus) != 1 or any(len(request.lines) != 1 for request in requests):
            raise ValueError("a flash sale sells one SKU at a time")
        (sku,) = skus
        bids = list(map(_bid, requests))
        replies = await self._granted(sku, bids)
        if replies is None:
            return [
                await self._answer_kept(request, bid, Reason.UNKNOWN_SKU)
                for request, bid in zip(requests, bids, strict=True)
            ]
        return [
            await self._answer_kept(request, bid, Reason.SOLD_OUT)
            if reply.word == "closed"
            else _answer(request, reply)
            for request, bid, reply in zip(requests, bids, replies.replies, strict=True)
        ]

    async def confirm(self, reservation: UUID, *, caller: str, key: str) -> Closed | Refused:
        """See `Reservations.confirm`. A grant that was lost with Redis is UNKNOWN_RESERVATION."""
        sale = await self.upkeep.settle_one(reservation)
        answer = await self._reservations.confirm(reservation, caller=caller, key=key)
        if sale is not None and isinstance(answer, Closed):
            await self.upkeep.tell(*sale, [reservation], back=False)
        return answer

    async def release(self, reservation: UUID, *, caller: str, key: str) -> Closed | Refused:
        """See `Reservations.release`; the units come back to the sale, while it is open."""
        await self.upkeep.settle_one(reservation)
        try:
            let_go = await self._ledger.release(reservation, caller=caller, key=key)
        except Conflicted:
            return Refused(Reason.CONFLICT)
        if let_go is not None:
            await self._tell(let_go)
        # Finds the answer under the key; or all there is to say of what was not live.
        return await self._reservations.release(reservation, caller=caller, key=key)

    async def expire_due(self, limit: int = 500) -> int:
        """Let go up to `limit` holds of flash sales that are due; how many they were.

        Any number of workers may do it at once: each hold is taken by one of them.
        """
        ended = 0
        for let_go in await self._ledger.expire(limit):
            ended += len(let_go.reservations)
            await self._tell(let_go)
        return ended

    async def rebuild(self, sku: str) -> Sale | None:
        """See `Upkeep.rebuild`."""
        return await self.upkeep.rebuild(sku)

    async def reconcile(self, sku: str, *, mend: bool = False) -> Drift | None:
        """See `Upkeep.reconcile`."""
        return await self.upkeep.reconcile(sku, mend=mend)

    async def _granted(self, sku: str, bids: Sequence[Bid]) -> Replies | None:
        """Replies of the counter, which is rebuilt if it is lost; None if no sale is open."""
        replies = await self._try(sku, bids)
        if replies is not None:
            return replies
        # Thousands may find it lost at once: one of them rebuilds it.
        async with self._rebuilding[sku]:
            replies = await self._try(sku, bids)
            if replies is None and await self.upkeep.rebuild(sku) is not None:
                replies = await self._try(sku, bids)
        return replies

    async def _try(self, sku: str, bids: Sequence[Bid]) -> Replies | None:
        replies = await self._counters.grant(sku, bids, self._epochs.get(sku, 0))
        if replies is not None:
            self._epochs[sku] = max(replies.epoch, self._epochs.get(sku, 0))
        return replies

    async def _answer_kept(
        self, request: Reserve, bid: Bid, otherwise: Reason
    ) -> Granted | Refused:
        """What Postgres knows of a request that no counter knows."""
        asked = bid.asked
        kept = await self._ledger.answer_of(asked.caller, asked.key, asked.request)
        if kept is not None:
            return kept
        if otherwise is Reason.UNKNOWN_SKU and await self._ledger.latest(request.lines[0].sku):
            otherwise = Reason.SOLD_OUT
        return Refused(otherwise, (_short(request, 0),))

    async def _tell(self, let_go: LetGo) -> None:
        sale = let_go.sale
        await self.upkeep.tell(sale.sku, sale.id, let_go.reservations, back=let_go.back)


def _bid(request: Reserve) -> Bid:
    asked = Asked(request.caller, request.key, request.reference, digest_of(request))
    (line,) = request.lines
    return Bid(uuid4(), line.quantity, request.hold_seconds, asked, request.warehouses)


def _answer(request: Reserve, reply: Reply) -> Granted | Refused | None:
    (line,) = request.lines
    match reply.word:
        case "granted":
            assert reply.reservation is not None
            held = Held(line.sku, reply.warehouse, line.quantity, reply.version)
            return Granted(reply.reservation, (held,), reply.held_until)
        case "waits":
            return None
        case "key_reused":
            return Refused(Reason.KEY_REUSED)
        case "sold_out":
            return Refused(Reason.SOLD_OUT, (_short(request, 0),))
        case _:
            return Refused(Reason.INSUFFICIENT, (_short(request, reply.left),))


def _short(request: Reserve, available: int) -> Short:
    (line,) = request.lines
    return Short(line.sku, line.quantity, available)
