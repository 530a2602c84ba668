"""Which channels have been told of every SKU, and by which rules.

One field per partition of the stock topic, written by the worker that holds the partition: a JSON
object from the channel's name to the digest of the policy that it has been told everything by. Who
else wants a channel to be told of every SKU marks it as behind (`rebuild.tell`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from projections.outage import redis_outages
from projections.script import Script

MARKS_KEY = "stockwire:told"

#: The script that sets them, unless somebody else has.
SET_MARKS = Script("mark.lua").source

#: In the place of a digest: told of some SKUs, but not of all.
NOT_WHOLE = ""
#: In the place of a digest: once told of all SKUs, and behind since.
BEHIND = "-"

#: `<worker>|<topic>` → why the topic takes no messages, as JSON; for people to look at.
REFUSALS_KEY = "stockwire:refusals"


def raw_marks(redis: Redis) -> dict[int, bytes]:
    """The marks of each partition that has any, as they are kept.

    Args:
        redis: a client with `decode_responses=False`.

    Raises:
        Outage: Redis does not answer.
    """
    with redis_outages():
        fields: dict[Any, Any] = redis.hgetall(MARKS_KEY)
    return {int(partition): marks for partition, marks in fields.items()}


def decoded(raw: Mapping[int, bytes]) -> dict[int, dict[str, str]]:
    """By partition and channel, the rules it was told everything by, or what it still lacks."""
    return {partition: orjson.loads(marks) for partition, marks in raw.items()}


def read_marks(redis: Redis) -> dict[int, dict[str, str]]:
    """See `raw_marks` and `decoded`."""
    return decoded(raw_marks(redis))


class Marks:
    """The marks in Redis. Every method raises `Outage` when Redis does not answer."""

    def __init__(self, redis: AsyncRedis) -> None:
        """Use a client with `decode_responses=False`."""
        self._redis = redis
        self._set = redis.register_script(SET_MARKS)
        self._seen: dict[int, bytes] = {}

    async def read(self) -> dict[int, dict[str, str]]:
        """The marks of each partition that has any."""
        with redis_outages():
            fields: dict[Any, Any] = await self._redis.hgetall(MARKS_KEY)
        self._seen = {int(partition): marks for partition, marks in fields.items()}
        return decoded(self._seen)

    async def write(self, partition: int, marks: Mapping[str, str]) -> dict[str, str] | None:
        """Set the marks of one partition, unless somebody else has since they were last seen.

        Returns:
            The others' marks, which are seen now; None if these were set.
        """
        text = orjson.dumps(dict(marks))
        seen = self._seen.get(partition, b"")
        with redis_outages():
            others: bytes | None = await self._set([MARKS_KEY], [partition, text, seen])
        self._seen[partition] = text if others is None else others
        return None if others is None else orjson.loads(others)

    async def refuse(
        self, worker: str, refusals: Mapping[str, Mapping[str, Any]], over: Iterable[str]
    ) -> None:
        """Say which topics refuse this worker's messages, and for which that is over."""
        with redis_outages():
            for topic, refusal in refusals.items():
                await self._redis.hset(REFUSALS_KEY, f"{worker}|{topic}", orjson.dumps(refusal))
            for topic in over:
                await self._redis.hdel(REFUSALS_KEY, f"{worker}|{topic}")
