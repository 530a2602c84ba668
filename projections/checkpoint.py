"""How far Redis has been told, kept in Redis beside the data: what loses the one loses the other.

The hash `stockwire:checkpoint` has a field `<topic>/<partition>` with the next offset, `:version`
with the highest version of a stock row that was ever applied, `:begun` once a worker writes here,
and `:restoring/<partition>`: 1 while the rows of that partition number are being loaded again, 2
once they are. All are whole numbers; `checkpoint.lua` raises the first two, which never fall.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from inventory.errors import ProjectionLost
from projections.outage import redis_outages
from projections.ports import Checkpoint

CHECKPOINT_KEY = "stockwire:checkpoint"
VERSION = ":version"
_BEGUN = ":begun"
_RESTORING = ":restoring/"
_LOADING, _LOADED = 1, 2


class CheckpointState(NamedTuple):
    """What Redis knows.

    Attributes:
        offsets: (topic, partition) → next offset, one above the highest that was applied.
        version: the highest version of a stock row that was ever applied; None before the first.
        restoring: partition numbers whose rows are being loaded.
        loaded: those that were once, and may not have been told yet.
    """

    offsets: Mapping[tuple[str, int], int]
    version: int | None
    restoring: frozenset[int]
    loaded: frozenset[int] = frozenset()


def read_checkpoints(redis: Redis) -> CheckpointState:
    """What Redis knows now.

    Args:
        redis: a client with `decode_responses=False`.

    Raises:
        Outage: Redis does not answer.
    """
    with redis_outages():
        return _state(redis.hgetall(CHECKPOINT_KEY))


class Checkpoints:
    """The same for a worker. Every method raises `Outage` when Redis does not answer."""

    def __init__(self, redis: AsyncRedis) -> None:
        """Use a client with `decode_responses=False`."""
        self._redis = redis

    async def begin(self) -> CheckpointState:
        """What Redis knows now; from now on it is noticed if Redis loses even that it was asked."""
        with redis_outages():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hset(CHECKPOINT_KEY, _BEGUN, 1)
                pipeline.hgetall(CHECKPOINT_KEY)
                _, fields = await pipeline.execute()
        return _state(fields)

    async def restore(self, partitions: Iterable[int], topics: Collection[str]) -> None:
        """Note, all at once, that these partition numbers are loaded from their beginning."""
        with redis_outages():
            async with self._redis.pipeline(transaction=True) as pipeline:
                for partition in partitions:
                    for topic in topics:
                        pipeline.hdel(CHECKPOINT_KEY, _offset_field((topic, partition)))
                    pipeline.hset(CHECKPOINT_KEY, _restoring_field(partition), _LOADING)
                await pipeline.execute()

    async def restored(self, partitions: Iterable[int]) -> None:
        """Note that everything of these partition numbers is loaded."""
        with redis_outages():
            for partition in partitions:
                await self._redis.hset(CHECKPOINT_KEY, _restoring_field(partition), str(_LOADED))

    async def run_id(self) -> str:
        """Which run of which server answers: another one after a restart or a failover."""
        with redis_outages():
            return str((await self._redis.info("server"))["run_id"])


class Known:
    """What a worker knows that Redis has been told: Redis must never have less."""

    def __init__(self) -> None:
        """Know of nothing."""
        self._least: dict[str, int] = {}

    def begin(self, offsets: Checkpoint, restoring: Iterable[int]) -> None:
        """Know, from now on, what `Checkpoints.begin` and `Checkpoints.restore` left."""
        self._least = {_BEGUN: 1}
        self._least |= {_restoring_field(partition): _LOADING for partition in restoring}
        self._least |= {_offset_field(place): offset for place, offset in offsets.items()}

    def least(self) -> dict[str, int]:
        """By field, what Redis has acknowledged by now."""
        return dict(self._least)

    def raising(self, checkpoint: Checkpoint, version: int | None) -> list[str | int]:
        """The arguments of `checkpoint.lua`, for these offsets and this highest row version."""
        raised = {_offset_field(place): offset for place, offset in checkpoint.items()}
        arguments: list[str | int] = ["" if version is None else version]
        for field in {**self._least, **raised}:
            arguments += (field, self._least.get(field, 0), raised.get(field, ""))
        return arguments

    def raised(self, checkpoint: Checkpoint, lost: Sequence[bytes]) -> None:
        """Note what `checkpoint.lua` has replied.

        Raises:
            ProjectionLost: it has found a field with less.
        """
        for name in lost:
            raise _lost(name.decode(), self._least[name.decode()])
        for place, offset in checkpoint.items():
            field = _offset_field(place)
            self._least[field] = max(offset, self._least.get(field, 0))


def compare(least: Mapping[str, int], stored: Sequence[bytes | None]) -> None:
    """Compare what Redis must have with what it has, in the same order.

    Raises:
        ProjectionLost: it has less.
    """
    for (field, offset), found in zip(least.items(), stored, strict=True):
        if int(found or 0) < offset:
            raise _lost(field, offset)


def _lost(field: str, least: int) -> ProjectionLost:
    return ProjectionLost(
        f"Redis knows less than it has acknowledged: {field} of {CHECKPOINT_KEY} is below {least}. "
        "The worker starts again and replays what is missing; look why Redis has lost data."
    )


def _offset_field(place: tuple[str, int]) -> str:
    topic, partition = place
    return f"{topic}/{partition}"


def _restoring_field(partition: int) -> str:
    return f"{_RESTORING}{partition}"


def _state(fields: Mapping[Any, Any]) -> CheckpointState:
    offsets: dict[tuple[str, int], int] = {}
    version: int | None = None
    restoring: set[int] = set()
    loaded: set[int] = set()
    for name, value in fields.items():
        field = name.decode()
        if field == VERSION:
            version = int(value)
        elif field.startswith(_RESTORING):
            some = restoring if int(value) == _LOADING else loaded
            some.add(int(field.removeprefix(_RESTORING)))
        elif not field.startswith(":"):
            topic, _, partition = field.rpartition("/")
            offsets[topic, int(partition)] = int(value)
    return CheckpointState(offsets, version, frozenset(restoring), frozenset(loaded))
