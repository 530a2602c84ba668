"""Reads the Redis projection for an audit: whatever is there, expected or not."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from redis import Redis
from redis.exceptions import ResponseError

from audit.compare import ProjectionSnapshot, is_rejected, override_fields, row_fields
from audit.report import Fields, Key, unreadable
from inventory.names import stock_key
from inventory.policy import AS_OF
from projections.fields import OVERRIDE_PREFIX
from projections.outage import redis_outages
from projections.reader import AvailabilityReader
from projections.states import read_states
from stockwire_client.names import availability_key, unescape_sku
from stockwire_client.reader import ChannelAvailability

_SKUS_PER_TRIP = 500
_KEYS_PER_SCAN = 5_000

#: What a channel's fields in the readers' hash end with.
_SUFFIXES = ("", ":status", ":version", ":backorderable", ":order_limit")

#: What reading raises at a value that no writer of ours wrote.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, ResponseError)

_T = TypeVar("_T")


def read_projection(
    redis: Redis, channels: Iterable[str], skus: Sequence[str] | None = None
) -> ProjectionSnapshot:
    """All of the working state, and what readers get of these availability channels.

    What cannot be decoded is found as `{"unreadable": why}`; of the working state that is a row or
    an override with the version that it seems to have, and under the key without a warehouse all
    else.

    Args:
        redis: a client with `decode_responses=False`.
        channels: names of the availability channels.
        skus: only of these; None is all that there are.

    Raises:
        Outage: Redis does not answer.
    """
    stocked = _skus(redis, stock_key) if skus is None else skus
    rows, overrides = _working_state(redis, stocked)
    listed = _skus(redis, availability_key) if skus is None else skus
    names = list(channels)
    told, strays = _channels(redis, names, listed), _strays(redis, names, listed)
    return ProjectionSnapshot(rows, told, overrides, strays)


def _working_state(
    redis: Redis, skus: Sequence[str]
) -> tuple[dict[Key, Fields], dict[Key, Fields]]:
    """Rows by SKU and warehouse, overrides by SKU and channel."""
    rows: dict[Key, Fields] = {}
    overrides: dict[Key, Fields] = {}
    for sku, state in each_readable(skus, lambda some: list(read_states(redis, some))):
        if isinstance(state, Exception):
            rows[Key(sku)] = unreadable(state)
            continue
        odd = {*state.unreadable}
        for warehouse, level in state.levels.items():
            if warehouse in odd and not is_rejected(sku, warehouse):
                odd.remove(warehouse)
                rows[Key(sku, warehouse)] = _unreadable_row(level.version)
            elif not level.deleted:
                rows[Key(sku, warehouse)] = row_fields(level)
        for channel, override in state.overrides.items():
            field = f"{OVERRIDE_PREFIX}{channel}"
            if field in odd:
                odd.remove(field)
                overrides[Key(sku, channel)] = _unreadable_row(override.version)
            elif not override.deleted:
                overrides[Key(sku, channel)] = override_fields(override)
        if odd:
            rows[Key(sku)] = unreadable(ValueError(", ".join(sorted(odd))))
    return rows, overrides


def _unreadable_row(version: int) -> Fields:
    return {**unreadable(ValueError("no worker has written this")), "version": version}


def _channels(
    redis: Redis, channels: Iterable[str], skus: Sequence[str]
) -> dict[str, dict[Key, Fields]]:
    reader = AvailabilityReader(redis)
    told: dict[str, dict[Key, Fields]] = {}
    for channel in channels:

        def promised(some: Sequence[str], of: str = channel) -> list[ChannelAvailability | None]:
            return list(reader.get_many(some, of).values())

        told[channel] = {
            Key(sku): _fields(state)
            for sku, state in each_readable(skus, promised)
            if state is not None
        }
    return told


def _strays(
    redis: Redis, channels: Collection[str], skus: Sequence[str]
) -> dict[str, dict[Key, Fields]]:
    """Fields of the readers' hashes that are none of these channels'."""
    known = {AS_OF, *(channel + suffix for channel in channels for suffix in _SUFFIXES)}

    def others(some: Sequence[str]) -> list[dict[str, str]]:
        with redis_outages(), redis.pipeline(transaction=False) as pipeline:
            for sku in some:
                pipeline.hgetall(availability_key(sku))
            hashes = [
                {name.decode(errors="replace"): value for name, value in found.items()}
                for found in pipeline.execute()
            ]
        return [
            {
                name: value.decode(errors="replace")
                for name, value in found.items()
                if name not in known
            }
            for found in hashes
        ]

    found: dict[str, dict[Key, dict[str, object]]] = {}
    for sku, strays in each_readable(skus, others):
        # A key of another type is found by every channel.
        if isinstance(strays, Exception):
            continue
        for name, value in strays.items():
            channel = name.partition(":")[0]
            # A channel that is there is compared by itself.
            place = name if channel in channels else channel
            found.setdefault(place, {}).setdefault(Key(sku), {})[name] = value
    return {place: dict(of) for place, of in found.items()}


def departed(marks: Mapping[int, Mapping[str, str]], channels: Iterable[str]) -> set[str]:
    """Channels that are gone, and are still being taken out of every SKU.

    Also those that are only marked as behind or begun.

    Args:
        marks: as `projections.marks.read_marks` has them.
        channels: names of the availability channels that there are.
    """
    return {name for told in marks.values() for name in told} - {*channels}


def _fields(state: ChannelAvailability | Exception) -> Fields:
    if isinstance(state, Exception):
        return unreadable(state)
    return {
        "available": state.available,
        "status": state.status,
        "backorderable": state.backorderable,
        "order_limit": state.order_limit,
        "version": state.version,
    }


def _skus(redis: Redis, key_of: Callable[[str], str]) -> list[str]:
    """The SKUs that have a key of this kind."""
    prefix, suffix = key_of("\0").split("\0")
    with redis_outages():
        # A scan may return a key twice.
        keys = {*redis.scan_iter(match=f"{prefix}*{suffix}", count=_KEYS_PER_SCAN)}
    names = (key.decode(errors="replace") for key in keys)
    return sorted(unescape_sku(name[len(prefix) : len(name) - len(suffix)]) for name in names)


def each_readable(
    skus: Sequence[str], read: Callable[[Sequence[str]], Sequence[_T]]
) -> Iterator[tuple[str, _T | Exception]]:
    """Read in bulk; where that fails, one by one, so that a bad value spoils only itself."""
    for start in range(0, len(skus), _SKUS_PER_TRIP):
        some = skus[start : start + _SKUS_PER_TRIP]
        try:
            found: Sequence[_T | Exception] = read(some)
        except UNREADABLE:
            found = [_one(sku, read) for sku in some]
        yield from zip(some, found, strict=True)


def _one(sku: str, read: Callable[[Sequence[str]], Sequence[_T]]) -> _T | Exception:
    try:
        return read([sku])[0]
    except UNREADABLE as exc:
        return exc
