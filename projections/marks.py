"""Which channels have been told of every SKU, and by which rules.

One field per partition of the stock topic, written by the worker that holds the partition: a JSON
object from the channel's name to the digest of the policy that it has been told everything by. Who
else wants a channel to be told of every SKU marks it as behind (`rebuild.tell`).
"""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import orjson
from redis.asyncio import Redis

from projections.outage import redis_outages

MARKS_KEY = "stockwire:told"

#: The script that sets them, unless somebody else has.
SET_MARKS = files("projections").joinpath("scripts", "mark.lua").read_text()

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
        self._set = redis.register_script(SET_MARKS)
        self._seen: dict[int, bytes] = {}

    async def read(self) -> dict[int, dict[str, str]]:
        """The marks of each partition that has any."""
        with redis_outages():
            fields: dict[Any, Any] = await self._redis.hgetall(MARKS_KEY)
        self._seen = {int(partition): marks for partition, marks in fields.items()}
        return {partition: orjson.loads(marks) for partition, marks in self._seen.items()}

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
