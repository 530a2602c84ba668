"""Reading one's own writes: the client's readers, and waiting for a row version.

with AvailabilityReader.from_url("redis://127.0.0.1:16379/0") as reader:
    reader.wait_for("SKU-1", "WH-1", version, timeout=1.0)
    found = reader.get("SKU-1", "web")
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import stockwire_client.reader
from inventory.names import stock_key
from projections.codec import decode_projection, level_version
from projections.fields import PUBLISHED, REVISION
from projections.outage import redis_outages

# Clients with and without `decode_responses` are both welcome.
_Value: TypeAlias = bytes | str


class AvailabilityReader(stockwire_client.reader.AvailabilityReader):
    """Reads the projection, blocking.

    Every method raises `inventory.errors.Outage` when Redis does not answer.
    """

    _outages = staticmethod(redis_outages)

    def wait_for(self, sku: str, warehouse: str, version: int, timeout: float) -> bool:
        """Wait until reads of a SKU include this version of its row, or a higher one.

        Args:
            sku: the row's SKU.
            warehouse: the row's warehouse.
            version: of the row in Postgres (`RETURNING version`); once deleted, the last + 1.
            timeout: in seconds.

        Returns:
            False if that did not happen in time.
        """
        included = _Inclusion(version)
        with redis_outages():
            for pause in _pauses(timeout):
                time.sleep(pause)
                if included(self._redis.hmget(stock_key(sku), _row_fields(warehouse))):
                    return True
        return False


class AsyncAvailabilityReader(stockwire_client.reader.AsyncAvailabilityReader):
    """`AvailabilityReader` for asyncio: the same methods, awaited."""

    _outages = staticmethod(redis_outages)

    async def wait_for(self, sku: str, warehouse: str, version: int, timeout: float) -> bool:  # noqa: ASYNC109
        """See `AvailabilityReader.wait_for`."""
        included = _Inclusion(version)
        with redis_outages():
            for pause in _pauses(timeout):
                await asyncio.sleep(pause)
                if included(await self._redis.hmget(stock_key(sku), _row_fields(warehouse))):
                    return True
        return False


class _Inclusion:
    """Whether reads include a row's version, judged from one look after the other.

    The row alone does not tell, as it is written a moment before the projection. Every projection
    includes it that belongs to the revision at which the row was first seen, or to a later one.
    """

    def __init__(self, version: int) -> None:
        self._version = version
        self._since: int | None = None

    def __call__(self, reply: Sequence[_Value | None]) -> bool:
        row, revision, published = reply
        if row is None or revision is None or level_version(_bytes(row)) < self._version:
            self._since = None
            return False
        # A Redis that lost its data counts from the start again: the lower revision holds.
        self._since = min(self._since or int(revision), int(revision))
        return (
            published is not None
            and decode_projection("", _bytes(published)).revision >= self._since
        )


def _row_fields(warehouse: str) -> list[str]:
    return [warehouse, REVISION, PUBLISHED]


def _pauses(timeout: float) -> Iterator[float]:
    """Seconds to wait before each look: none at first, the last one ends with the timeout."""
    yield 0.0
    deadline = time.monotonic() + timeout
    pause = 0.001
    while (left := deadline - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(2 * pause, 0.02)


def _bytes(value: _Value) -> bytes:
    return value.encode() if isinstance(value, str) else value
