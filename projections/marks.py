"""Which channels have been told of every SKU, and by which rules.

One field per partition of the stock topic, written by the worker that holds the partition: a JSON
object from the channel's name to the digest of the policy that it has been told everything by.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from redis.asyncio import Redis

from projections.outage import redis_outages

MARKS_KEY = "stockwire:told"

#: In the place of a digest: told of some SKUs, but not of all.
NOT_WHOLE = ""
#: In the place of a digest: once told of all SKUs, and behind since.
BEHIND = "-"

#: `<worker>|<topic>` → why the topic takes no messages, as JSON; for people to look at.
REFUSALS_KEY = "stockwire:refusals"


class Marks:
    """The marks in Redis. Every method raises `Outage` when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        """Use a client with `decode_responses=False`."""
        self._redis = redis

    async def read(self) -> dict[int, dict[str, str]]:
        """The marks of each partition that has any."""
        with redis_outages():
            fields = await self._redis.hgetall(MARKS_KEY)
        return {int(partition): orjson.loads(marks) for partition, marks in fields.items()}

    async def write(self, partition: int, marks: Mapping[str, str]) -> None:
        """Set the marks of one partition."""
        with redis_outages():
            await self._redis.hset(MARKS_KEY, str(partition), orjson.dumps(dict(marks)))

    async def refuse(
        self, worker: str, refusals: Mapping[str, Mapping[str, Any]], over: Iterable[str]
    ) -> None:
        """Say which topics refuse this worker's messages, and for which that is over."""
        with redis_outages():
            for topic, refusal in refusals.items():
                await self._redis.hset(REFUSALS_KEY, f"{worker}|{topic}", orjson.dumps(refusal))
            for topic in over:
                await self._redis.hdel(REFUSALS_KEY, f"{worker}|{topic}")
