"""Walks all SKUs in Redis in small steps."""

from typing import NamedTuple

from redis.asyncio import Redis

from inventory.names import stock_key
from projections.codec import PARTITION
from projections.outage import redis_outages
from stockwire_client.names import unescape_sku

_PREFIX, _SUFFIX = (part.encode() for part in stock_key("|").split("|"))

#: Keys that Redis looks at in one step; about half of them are SKUs' stock.
_COUNT = 400


class Found(NamedTuple):
    """Some SKUs, each with the partition of the stock topic that its changes come from.

    Attributes:
        cursor: where the next step begins; 0 after the last one.
    """

    cursor: int
    skus: list[tuple[str, int]]


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
        async with redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hget(key, PARTITION)
            partitions = await pipeline.execute()
    skus = [
        (_sku(key), int(partition))
        for key, partition in zip(keys, partitions, strict=True)
        if partition is not None
    ]
    return Found(cursor, skus)


def _sku(key: bytes | str) -> str:
    assert isinstance(key, bytes)
    return unescape_sku(key[len(_PREFIX) : -len(_SUFFIX)].decode())
