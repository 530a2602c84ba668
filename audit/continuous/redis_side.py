"""Asks Redis in bulk: what it has of SKUs, and which SKUs it has."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from redis import Redis
from redis.exceptions import NoScriptError

from audit.continuous.screen import Seen
from inventory.names import stock_key
from projections.outage import redis_outages
from projections.script import Script
from stockwire_client.names import availability_key, unescape_sku

_AUDIT = Script("audit.lua")

#: Redis serves nobody else during a call.
_SKUS_PER_CALL = 100
_KEYS_PER_SCAN = 1_000

#: What the keys of both kinds begin with; the rest of both is `{<sku>}`.
_PREFIXES = tuple(key("\0").split("{")[0].encode() for key in (stock_key, availability_key))


class RedisSide:
    """Every method raises `Outage` when Redis does not answer.

    Args:
        redis: a client with `decode_responses=False`.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def seen(
        self, skus: Sequence[str], questions: Sequence[Sequence[str]], channels: Sequence[str]
    ) -> list[Seen]:
        """What Redis has of each SKU.

        Args:
            skus: any number of them.
            questions: of each, as `audit.continuous.screen.asked` has it.
            channels: the availability channels.
        """
        calls = []
        for start in range(0, len(skus), _SKUS_PER_CALL):
            some = slice(start, start + _SKUS_PER_CALL)
            tails = map(tail_of, skus[some])
            keys = [prefix + tail for tail in tails for prefix in _PREFIXES]
            about = orjson.dumps({"channels": channels, "rows": questions[some]})
            calls.append(_AUDIT.call(keys, about))
        if not calls:
            return []
        with redis_outages():
            try:
                replies = self._send(calls)
            except NoScriptError:
                replies = self._send([_AUDIT.load, *calls])[1:]
        return [_seen(reply) for some in replies for reply in some]

    def _send(self, calls: Sequence[Sequence[Any]]) -> list[Any]:
        with self.redis.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command(*call)  # type: ignore[no-untyped-call]
            return pipeline.execute()

    def tails(self) -> Iterator[list[bytes]]:
        """Of every SKU that has a key, `{<sku>}` as the key has it; some of them several times."""
        cursor = 0
        while True:
            with redis_outages():
                found: tuple[int, list[Any]] = self.redis.scan(cursor, count=_KEYS_PER_SCAN)
            cursor, keys = found
            yield [
                key[len(prefix) :]
                for key in keys
                for prefix in _PREFIXES
                if key.startswith(prefix) and key.endswith(b"}") and key[len(prefix)] == 123
            ]
            if cursor == 0:
                return


def tail_of(sku: str) -> bytes:
    """What the keys of a SKU end with."""
    return stock_key(sku).encode()[len(_PREFIXES[0]) :]


def sku_of(tail: bytes) -> str:
    """The inverse of `tail_of`."""
    return unescape_sku(tail[1:-1].decode(errors="replace"))


def _seen(reply: bytes) -> Seen:
    same, *shown = reply.decode(errors="replace").split("\n")
    return Seen(same == "1", shown)
