"""The settling worker: reads what Redis has granted, and writes it into Postgres."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from projections.outage import redis_outages
from reservations.flash.counter import GROUP, keys_of
from reservations.flash.grant import Sale
from reservations.flash.sales import FlashSales
from reservations.flash.upkeep import decoded
from reservations.rounds import Tell, run_rounds, tell_nobody

#: Seconds between two looks at what is not in the streams: lost counters, what nobody was told of.
HOUSEKEEPING_SECONDS = 0.25
#: Seconds between two looks for a sale while none is open.
IDLE_SECONDS = 1.0
#: Seconds between two comparisons of all of a counter with Postgres.
RECONCILE_SECONDS = 10.0


class Settler:
    """One of any number of workers of a consumer group.

    Args:
        sales: what to settle.
        redis: a client with `decode_responses=False`, its socket's timeout above `wait_seconds`.
        name: of this worker in its group; no other one's.
        batch: grants that one transaction settles.
        wait_seconds: how long to wait for grants.
        claim_seconds: what another worker has not settled for so long is taken over.
    """

    def __init__(
        self,
        sales: FlashSales,
        redis: Redis,
        name: str,
        *,
        batch: int = 500,
        wait_seconds: float = 0.1,
        claim_seconds: float = 5.0,
    ) -> None:
        self._sales = sales
        self._redis = redis
        self._name = name
        self._batch = batch
        self._wait_ms = max(1, round(wait_seconds * 1000))
        self._claim_ms = round(claim_seconds * 1000)
        self._open: Sequence[Sale] = ()
        self._kept_house = self._reconciled = float("-inf")

    async def run(
        self,
        stop: asyncio.Event,
        *,
        on_settled: Callable[[int], None] = lambda _: None,
        tell: Tell = tell_nobody,
    ) -> None:
        """Settle until `stop` is set. An outage is waited for.

        Holds that are due are not its business: see `FlashSales.expire_due`.

        Args:
            stop: ends it, after what is in hand.
            on_settled: is told how many grants have been, each time that some have.
            tell: is told of each round's outcome.
        """

        async def settle() -> float:
            if settled := await self.step():
                on_settled(settled)
            return 0.0 if self._open else IDLE_SECONDS

        await run_rounds("settlement", settle, stop, tell=tell)

    async def step(self) -> int:
        """Keep house if it is time; settle what there is; how many grants.

        Raises:
            Outage: Redis or Postgres takes no work; what was not settled is read again.
        """
        now = time.monotonic()
        settled = 0
        if now - self._kept_house >= HOUSEKEEPING_SECONDS:
            settled = await self._keep_house(now)
        if not self._open:
            return settled
        return settled + await self._settle(await self._read())

    async def claim(self) -> int:
        """Settle what other workers have read and not acknowledged for long; how many grants.

        Raises:
            Outage: Redis or Postgres takes no work.
        """
        settled = 0
        for sale in self._open:
            with redis_outages():
                _, entries, *_ = await self._streams(
                    self._redis.xautoclaim,
                    *(keys_of(sale.sku)[4], GROUP, self._name, self._claim_ms),
                    count=self._batch,
                ) or (None, [])
            settled += await self._settle({sale: entries})
        return settled

    async def _keep_house(self, now: float) -> int:
        """Lost counters, and what a crash has left lying; how many grants were settled."""
        self._open = await self._sales.upkeep.check()
        settled = await self.claim()
        for sale in self._open:
            await self._sales.upkeep.sweep(sale)
        if now - self._reconciled >= RECONCILE_SECONDS:
            for sale in self._open:
                await self._sales.reconcile(sale.sku, mend=True)
            self._reconciled = now
        self._kept_house = now
        return settled

    async def _read(self) -> dict[Sale, Any]:
        streams = {keys_of(sale.sku)[4].encode(): sale for sale in self._open}
        with redis_outages():
            replies = await self._streams(
                self._redis.xreadgroup,
                *(GROUP, self._name, dict.fromkeys(streams, ">")),
                count=self._batch,
                block=self._wait_ms,
            )
        return {streams[stream]: entries for stream, entries in replies or ()}

    async def _settle(self, batches: dict[Sale, Any]) -> int:
        """Into Postgres first; acknowledged afterwards: a crash in between has it done again."""
        settled = 0
        for sale, entries in batches.items():
            if not entries:
                continue
            grants = {
                entry: grant for entry, fields in entries for grant in decoded([fields[b"grant"]])
            }
            finished = set(await self._sales.upkeep.settle(sale, list(grants.values())))
            # What nobody can read is acknowledged too: it has been told of.
            done = [
                entry for entry, _ in entries if entry not in grants or grants[entry] in finished
            ]
            await self._acknowledge(sale, done)
            settled += len(done)
        return settled

    async def _acknowledge(self, sale: Sale, entries: Sequence[bytes]) -> None:
        if not entries:
            return
        stream = keys_of(sale.sku)[4]
        with redis_outages():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.xack(stream, GROUP, *entries)
                pipeline.xdel(stream, *entries)
                await pipeline.execute()

    async def _streams(self, command: Any, *arguments: Any, **options: Any) -> Any:
        """What a command of the consumer group gives; nothing if the group was lost just now."""
        try:
            return await command(*arguments, **options)
        except ResponseError as exc:
            if not str(exc).startswith("NOGROUP"):
                raise
        for sale in self._open:
            await _ensure_group(self._redis, sale.sku)
        return None


async def _ensure_group(redis: Redis, sku: str) -> None:
    """Have the consumer group of a SKU's stream, which is lost with it.

    Raises:
        redis.exceptions.RedisError: Redis takes no work.
    """
    try:
        await redis.xgroup_create(keys_of(sku)[4], GROUP, "0", mkstream=True)
    except ResponseError as exc:
        if not str(exc).startswith("BUSYGROUP"):
            raise
