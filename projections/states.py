"""Reads the working state in bulk, for whoever compares it with Postgres."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from redis import Redis

from inventory.names import stock_key
from inventory.projection import SkuState
from projections.codec import decode_state
from projections.outage import redis_outages


def read_states(redis: Redis, skus: Iterable[str], *, per_trip: int = 500) -> Iterator[SkuState]:
    """The state of each SKU in the order given; one that Redis does not know has no levels.

    Args:
        redis: a client with `decode_responses=False`.
        skus: any number of them; they are read as they come.
        per_trip: the number of SKUs in one round trip, and in memory at once.

    Raises:
        Outage: Redis does not answer.
    """
    rest = iter(skus)
    while some := list(islice(rest, per_trip)):
        with redis_outages(), redis.pipeline(transaction=False) as pipeline:
            for sku in some:
                pipeline.hgetall(stock_key(sku))
            hashes = pipeline.execute()
        for sku, fields in zip(some, hashes, strict=True):
            yield decode_state(sku, list(chain.from_iterable(fields.items())))
