"""What a storefront uses: availability in one round trip, and waiting for one's own writes.

reader = AvailabilityReader.from_url("redis://127.0.0.1:16379/0")
found = reader.get("SKU-1", "web")
print(found.available if found else "not sold here")
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

import redis
import redis.asyncio

from inventory.availability import Status
from inventory.names import availability_key, stock_key
from inventory.projection import AS_OF
from projections.codec import PUBLISHED, REVISION, decode_projection, level_version
from projections.outage import redis_outages

# Clients with and without `decode_responses` are both welcome.
_Value: TypeAlias = bytes | str


class ChannelAvailability(NamedTuple):
    """What a channel may promise of a SKU.

    Attributes:
        available: units.
        version: µs clock, the same as in the channel's message that says this.
        as_of: commit time of the SKU's latest change, UTC, to the millisecond.
    """

    available: int
    status: Status
    version: int
    as_of: datetime


class AvailabilityReader:
    """Reads the projection, blocking.

    Every method raises `inventory.errors.Outage` when Redis does not answer.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    @classmethod
    def from_url(cls, url: str) -> Self:
        """A reader with its own connections, e.g. to redis://127.0.0.1:16379/0."""
        return cls(redis.Redis.from_url(url))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def get(self, sku: str, channel: str) -> ChannelAvailability | None:
        """What a channel may promise of a SKU; None if the SKU is not listed there."""
        with redis_outages():
            return _of_channel(self._redis.hmget(availability_key(sku), _fields(channel)))

    def get_all(self, sku: str) -> dict[str, ChannelAvailability]:
        """What each channel that lists the SKU may promise of it, by channel name."""
        with redis_outages():
            return _of_channels(self._redis.hgetall(availability_key(sku)))

    def get_many(self, skus: Iterable[str], channel: str) -> dict[str, ChannelAvailability | None]:
        """What a channel may promise of each SKU, in one round trip."""
        wanted = list(skus)
        with redis_outages(), self._redis.pipeline(transaction=False) as pipeline:
            for sku in wanted:
                pipeline.hmget(availability_key(sku), _fields(channel))
            return dict(zip(wanted, map(_of_channel, pipeline.execute()), strict=True))

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


class AsyncAvailabilityReader:
    """`AvailabilityReader` for asyncio: the same methods, awaited."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client

    @classmethod
    def from_url(cls, url: str) -> Self:
        """A reader with its own connections, e.g. to redis://127.0.0.1:16379/0."""
        return cls(redis.asyncio.Redis.from_url(url))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def get(self, sku: str, channel: str) -> ChannelAvailability | None:
        """See `AvailabilityReader.get`."""
        with redis_outages():
            return _of_channel(await self._redis.hmget(availability_key(sku), _fields(channel)))

    async def get_all(self, sku: str) -> dict[str, ChannelAvailability]:
        """See `AvailabilityReader.get_all`."""
        with redis_outages():
            return _of_channels(await self._redis.hgetall(availability_key(sku)))

    async def get_many(
        self, skus: Iterable[str], channel: str
    ) -> dict[str, ChannelAvailability | None]:
        """See `AvailabilityReader.get_many`."""
        wanted = list(skus)
        with redis_outages():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for sku in wanted:
                    pipeline.hmget(availability_key(sku), _fields(channel))
                replies = await pipeline.execute()
        return dict(zip(wanted, map(_of_channel, replies), strict=True))

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


def _fields(channel: str) -> list[str]:
    return [channel, f"{channel}:status", f"{channel}:version", AS_OF]


def _of_channel(reply: Sequence[_Value | None]) -> ChannelAvailability | None:
    available, status, version, as_of = reply
    if available is None or status is None or version is None or as_of is None:
        return None
    return ChannelAvailability(
        int(available),
        Status(_bytes(status).decode()),
        int(version),
        datetime.fromtimestamp(int(as_of) / 1000, UTC),
    )


def _of_channels(reply: Mapping[_Value, _Value]) -> dict[str, ChannelAvailability]:
    values = {_bytes(field).decode(): value for field, value in reply.items()}
    channels = (field for field in values if ":" not in field and field != AS_OF)
    found = {name: _of_channel([*map(values.get, _fields(name))]) for name in channels}
    return {name: state for name, state in found.items() if state is not None}


def _bytes(value: _Value) -> bytes:
    return value.encode() if isinstance(value, str) else value
