"""Walks all SKUs in Redis in small steps."""

from typing import NamedTuple

from redis.asyncio import Redis

from inventory.names import stock_key
from projections.outage import redis_outages
from stockwire_client.names import unescape_sku

_PREFIX, _SUFFIX = (part.encode() for part in stock_key("|").split("|"))

#: Keys that Redis looks at in one step; about half of them are SKUs' stock.
_COUNT = 800


class Found(NamedTuple):
    """Some SKUs; `cursor` is where the next step begins, 0 after the last one."""

    cursor: int
    skus: list[str]


async def scan_skus(redis: Redis, cursor: int) -> Found:
    """The next few SKUs; every SKU that is there throughout a walk is met at least once.

    Args:
        redis: a client with `decode_responses=False`.
        cursor: 0 to begin with.

    Raises:
        Outage: Redis does not answer.
    """
    with redis_outages():
        cursor, keys = await redis.scan(cursor, match=_PREFIX + b"*" + _SUFFIX, count=_COUNT)
    # A step may return a key twice.
    return Found(cursor, [*dict.fromkeys(map(_sku, keys))])


def _sku(key: bytes | str) -> str:
    assert isinstance(key, bytes)
    return unescape_sku(key[len(_PREFIX) : -len(_SUFFIX)].decode())
