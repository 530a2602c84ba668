"""A settling worker as a process that kills itself with grants in hand."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from types import MappingProxyType

import pytest

from reservations.flash import FlashSales
from reservations.flash.book import Book
from reservations.flash.counter import open_redis
from reservations.flash.grant import Grant, Verdict
from reservations.flash.settler import Settler
from reservations.pool import open_pool


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before_commit(patch: pytest.MonkeyPatch) -> None:
    """Postgres has been told of the grants, and takes them back."""
    settle = Book.settle

    async def settle_and_die(book: Book, grants: Sequence[Grant]) -> Verdict:
        verdict = await settle(book, grants)
        if verdict.settle:
            _die()
        return verdict

    patch.setattr(Book, "settle", settle_and_die)


def _before_acknowledging(patch: pytest.MonkeyPatch) -> None:
    """Postgres has the grants, and Redis is not told."""

    async def die(*_: object) -> None:
        _die()

    patch.setattr(Settler, "_acknowledge", die)


POINTS: MappingProxyType[str, Callable[[pytest.MonkeyPatch], None]] = MappingProxyType(
    {"before commit": _before_commit, "before acknowledging": _before_acknowledging}
)


async def _main(conninfo: str, redis_url: str, point: str) -> None:
    async with open_pool(conninfo, size=2) as pool, open_redis(redis_url) as redis:
        await Settler(FlashSales(pool, redis), redis, point).run(asyncio.Event())


def run(conninfo: str, redis_url: str, point: str) -> None:
    """Settle until it is killed at that point."""
    with pytest.MonkeyPatch.context() as patch:
        POINTS[point](patch)
        asyncio.run(_main(conninfo, redis_url, point))
