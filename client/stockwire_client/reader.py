"""What a storefront uses: availability in one round trip.

reader = AvailabilityReader.from_url("redis://127.0.0.1:16379/0")
found = reader.get("SKU-1", "web")
print(found.available if found else "not sold here")
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeAlias

import redis
import redis.asyncio

from stockwire_client.contract import Status
from stockwire_client.names import availability_key
from stockwire_client.outage import redis_unavailable

#: The field with the commit time of a SKU's latest change; no channel has its name.
_AS_OF: Final = "as_of"

# Clients with and without `decode_responses` are both welcome.
_Value: TypeAlias = bytes | str


class ChannelAvailability(NamedTuple):
    """What a channel may promise of a SKU.

    Attributes:
        available: units.
        status: a `Status`, or a plain string that a later version of Stockwire has added.
        version: µs clock, the same as in the channel's message that says this.
        as_of: commit time of the SKU's latest change, UTC, to the millisecond.
        backorderable: units that may be sold in advance; 0 while anything is available.
        order_limit: the most units that one order may take.
    """

    available: int
    status: str
    version: int
    as_of: datetime
    backorderable: int
    order_limit: int


class AvailabilityReader:
    """Reads the projection, blocking. Every method raises `Unavailable` when Redis is away."""

    #: Turns Redis' errors into the kit's; Stockwire itself has errors of its own.
    _outages: Callable[[], AbstractContextManager[None]] = staticmethod(redis_unavailable)

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
        with self._outages():
            return _of_channel(self._redis.hmget(availability_key(sku), _fields(channel)))

    def get_all(self, sku: str) -> dict[str, ChannelAvailability]:
        """What each channel that lists the SKU may promise of it, by channel name."""
        with self._outages():
            return _of_channels(self._redis.hgetall(availability_key(sku)))

    def get_many(self, skus: Iterable[str], channel: str) -> dict[str, ChannelAvailability | None]:
        """What a channel may promise of each SKU, in one round trip."""
        wanted = list(skus)
        with self._outages(), self._redis.pipeline(transaction=False) as pipeline:
            for sku in wanted:
                pipeline.hmget(availability_key(sku), _fields(channel))
            return dict(zip(wanted, map(_of_channel, pipeline.execute()), strict=True))


class AsyncAvailabilityReader:
    """`AvailabilityReader` for asyncio: the same methods, awaited."""

    _outages: Callable[[], AbstractContextManager[None]] = staticmethod(redis_unavailable)

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
        with self._outages():
            return _of_channel(await self._redis.hmget(availability_key(sku), _fields(channel)))

    async def get_all(self, sku: str) -> dict[str, ChannelAvailability]:
        """See `AvailabilityReader.get_all`."""
        with self._outages():
            return _of_channels(await self._redis.hgetall(availability_key(sku)))

    async def get_many(
        self, skus: Iterable[str], channel: str
    ) -> dict[str, ChannelAvailability | None]:
        """See `AvailabilityReader.get_many`."""
        wanted = list(skus)
        with self._outages():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for sku in wanted:
                    pipeline.hmget(availability_key(sku), _fields(channel))
                replies = await pipeline.execute()
        return dict(zip(wanted, map(_of_channel, replies), strict=True))


def _fields(channel: str) -> list[str]:
    return [
        channel,
        f"{channel}:status",
        f"{channel}:version",
        _AS_OF,
        f"{channel}:backorderable",
        f"{channel}:order_limit",
    ]


def _of_channel(reply: Sequence[_Value | None]) -> ChannelAvailability | None:
    available, status, version, as_of, backorderable, order_limit = reply
    if available is None or status is None or version is None or as_of is None:
        return None
    # The last two are there only where the policy asks for them.
    units, advance = int(available), int(backorderable or 0)
    return ChannelAvailability(
        units,
        _status(_text(status)),
        int(version),
        datetime.fromtimestamp(int(as_of) / 1000, UTC),
        advance,
        (units or advance) if order_limit is None else int(order_limit),
    )


def _of_channels(reply: Mapping[_Value, _Value]) -> dict[str, ChannelAvailability]:
    values = {_text(field): value for field, value in reply.items()}
    channels = (field for field in values if ":" not in field and field != _AS_OF)
    found = {name: _of_channel([*map(values.get, _fields(name))]) for name in channels}
    return {name: state for name, state in found.items() if state is not None}


_KNOWN: Final[Mapping[str, Status]] = {status.value: status for status in Status}


def _status(text: str) -> str:
    return _KNOWN.get(text, text)


def _text(value: _Value) -> str:
    return value if isinstance(value, str) else value.decode()
