"""One pass over everything, in small steps: Postgres first, then who has what it has not."""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from audit.compare import StockSnapshot
from audit.continuous.follower import Follower
from audit.continuous.judge import kept_since_us
from audit.continuous.pages import Pages
from audit.continuous.redis_side import RedisSide, sku_of, tail_of
from audit.continuous.screen import asked, suspects
from audit.continuous.told import ToldStore
from inventory.policy import ChannelKind, ChannelPolicy

_SKUS_PER_PAGE = 1_000
_TOLD_PER_STEP = 5_000

#: Which SKUs a pass has met: a byte for each remainder of their hashes, 8 MiB whatever there is.
_SLOTS = 2**23


class Step(NamedTuple):
    """What a step has done.

    Attributes:
        rows: of Postgres that were compared.
        keys: of other places that were looked at.
        policies: of all channels, where the step has read them.
    """

    rows: int
    keys: int
    suspects: list[str]
    policies: tuple[ChannelPolicy, ...] | None = None


class Walk:
    """Every method raises as `Pages`, `RedisSide` and `ToldStore` do."""

    def __init__(
        self, pages: Pages, redis: RedisSide, store: ToldStore, follower: Follower
    ) -> None:
        self._pages = pages
        self._redis = redis
        self._store = store
        self._follower = follower

    def steps(self) -> Iterator[Step]:
        """Everything once. A step that raises can be followed by no other: begin again."""
        met = _Met()
        yield from self._stocked(met)
        yield from self._stockless(met)
        for tails in self._redis.tails():
            strangers = {tail for tail in tails if tail not in met}
            yield Step(0, len(tails), self._ghosts([*map(sku_of, strangers)]))
        after = ""
        while skus := self._store.skus(after, _TOLD_PER_STEP):
            after = skus[-1]
            ghosts = self._ghosts([sku for sku in skus if tail_of(sku) not in met])
            yield Step(0, len(skus), ghosts)

    def _stocked(self, met: "_Met") -> Iterator[Step]:
        after: str | None = ""
        while after is not None:
            stock, after = self._pages.page(after, _SKUS_PER_PAGE)
            skus = [*stock.levels]
            yield Step(stock.rows, 0, self._screen(stock, skus), stock.policies)
            met.add(skus)

    def _stockless(self, met: "_Met") -> Iterator[Step]:
        after = ""
        while skus := self._pages.stockless(after, _SKUS_PER_PAGE):
            after = skus[-1]
            stock = self._pages.of(skus).stock
            yield Step(0, len(skus), self._screen(stock, skus), stock.policies)
            met.add(skus)

    def _screen(self, stock: StockSnapshot, skus: Sequence[str]) -> list[str]:
        sellers = sorted(p.name for p in stock.policies if p.kind is ChannelKind.AVAILABILITY)
        kept = {
            policy.topic: kept_since_us(self._follower.places(policy.topic))
            for policy in stock.policies
            if policy.kind is ChannelKind.MOVEMENT
        }
        seen = self._redis.seen(skus, asked(stock, skus), sellers)
        return [*suspects(stock, skus, seen, self._store.of(skus), kept)]

    def _ghosts(self, skus: Sequence[str]) -> list[str]:
        """Those that Postgres does not have, and of which something is left elsewhere.

        A SKU that has come since its page was read is none.
        """
        if not skus:
            return []
        known = self._pages.known(skus)
        unknown = sorted(sku for sku in skus if sku not in known)
        empty = StockSnapshot({}, self._pages.policies())
        return self._screen(empty, unknown)


class _Met:
    """SKUs, by their hashes: one that is not in it was not met, one that is may be another's.

    Which part of the hash counts is another one in each pass, so that nothing hides for long.
    """

    def __init__(self) -> None:
        self._slots = bytearray(_SLOTS)
        self._shift = random.randrange(38)

    def add(self, skus: Sequence[str]) -> None:
        for sku in skus:
            self._slots[hash(tail_of(sku)) >> self._shift & (_SLOTS - 1)] = 1

    def __contains__(self, tail: bytes) -> bool:
        return self._slots[hash(tail) >> self._shift & (_SLOTS - 1)] == 1
