"""How far a rebuild is, kept beside the data that it writes, and who is at it."""

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Self
from uuid import uuid4

from redis import Redis

from inventory.errors import Outage, RebuildError
from projections.outage import redis_outages

#: The plan, and how far each part of it is.
REBUILD_KEY = "stockwire:rebuild"
#: SKUs of which the channels may have been told something wrong.
SUSPECTS_KEY = "stockwire:rebuild:suspects"
#: SKUs that an audit of the shadow has found to differ from Postgres.
DIFFERING_KEY = "stockwire:rebuild:differing"
#: Who rebuilds now.
LOCK_KEY = "stockwire:rebuild:lock"

_LOCK_MS = 15_000
_BEAT_SECONDS = 5.0

#: What comes before the name of a part in the field that says where it ends, how far it is, and
#: how many of its records are done.
_END, _AT, _DONE = "end:", "at:", "done:"


class Counts(NamedTuple):
    """What was done so far.

    Attributes:
        records: read from the source.
        skus: looked at, some more than once.
        mended: whose numbers were wrong or missing.
        readers: of which only the readers' hash was wrong or missing.
        unplaced: mended without knowing their partition of the stock topic.
        rejected: records that the pipeline dead-letters by rule.
    """

    records: int = 0
    skus: int = 0
    mended: int = 0
    readers: int = 0
    unplaced: int = 0
    rejected: int = 0


class Progress:
    """The record of a rebuild in one key space. Every method raises `Outage` without Redis."""

    def __init__(self, redis: Redis) -> None:
        """Keep it in this database."""
        self._redis = redis

    def read(self) -> dict[str, str]:
        """All of it, empty if there is none."""
        with redis_outages():
            found: dict[Any, Any] = self._redis.hgetall(REBUILD_KEY)
        return {name.decode(): value.decode() for name, value in found.items()}

    def begin(self, plan: Mapping[str, str], parts: Mapping[str, str]) -> None:
        """Note a new plan; `parts` by name, with where they end."""
        fields: dict[Any, Any] = {**plan, **{f"{_END}{part}": end for part, end in parts.items()}}
        with redis_outages():
            self._redis.hset(REBUILD_KEY, mapping=fields)

    def note(self, positions: Mapping[str, str], counts: Counts, done: str | None = None) -> None:
        """Note a portion that is written, and the part that it was the last one of."""
        with redis_outages(), self._redis.pipeline(transaction=True) as pipeline:
            for part, position in positions.items():
                pipeline.hset(REBUILD_KEY, f"{_AT}{part}", position)
            for name, count in counts._asdict().items():
                if count:
                    pipeline.hincrby(REBUILD_KEY, name, count)
            if done is not None:
                pipeline.hset(REBUILD_KEY, f"{_DONE}{done}", "1")
            pipeline.execute()

    def set(self, name: str, value: str) -> None:
        """Note one fact of the plan."""
        with redis_outages():
            self._redis.hset(REBUILD_KEY, name, value)

    def clear(self) -> None:
        """Forget it."""
        with redis_outages():
            self._redis.delete(REBUILD_KEY, SUSPECTS_KEY, DIFFERING_KEY)


class Standing(NamedTuple):
    """`Progress.read`, understood."""

    facts: dict[str, str]

    @property
    def parts(self) -> dict[str, str]:
        """Where each part ends."""
        return self._named(_END)

    @property
    def positions(self) -> dict[str, str]:
        """Where each part has come to, if it has begun."""
        return self._named(_AT)

    @property
    def left(self) -> list[str]:
        """The parts that are not done."""
        done = self._named(_DONE)
        return [part for part in self.parts if part not in done]

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return Counts(*(int(self.facts.get(name, 0)) for name in Counts._fields))

    def _named(self, prefix: str) -> dict[str, str]:
        return {
            name.removeprefix(prefix): value
            for name, value in self.facts.items()
            if name.startswith(prefix)
        }


class Lock:
    """Held by the one rebuild that runs; `held` takes it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._who = f"{socket.gethostname()} {os.getpid()} {uuid4().hex[:8]}"
        self._over = threading.Event()
        self.lost = threading.Event()

    @classmethod
    @contextmanager
    def held(cls, redis: Redis) -> Iterator[Self]:
        """Hold the lock while inside.

        Raises:
            RebuildError: another rebuild runs.
            Outage: Redis does not answer.
        """
        lock = cls(redis)
        with redis_outages():
            if not redis.set(LOCK_KEY, lock._who, nx=True, px=_LOCK_MS):
                holder: Any = redis.get(LOCK_KEY) or b"?"
                raise RebuildError(
                    f"A rebuild runs already (host and process {holder.decode()}); wait for it, or "
                    f"{_LOCK_MS // 1000} s if it was killed."
                )
        beat = threading.Thread(target=lock._beat, name="lock of the rebuild", daemon=True)
        beat.start()
        try:
            yield lock
        finally:
            lock._over.set()
            beat.join()
            if not lock.lost.is_set():
                with redis_outages():
                    redis.delete(LOCK_KEY)

    def check(self) -> None:
        """Raise `RebuildError` once somebody else may have begun."""
        if self.lost.is_set():
            raise RebuildError("The lock of the rebuild was lost; start it again, it goes on.")

    def _beat(self) -> None:
        while not self._over.wait(_BEAT_SECONDS):
            try:
                with redis_outages():
                    if self._redis.get(LOCK_KEY) != self._who.encode():
                        self.lost.set()
                        return
                    self._redis.pexpire(LOCK_KEY, _LOCK_MS)
            except Outage:
                continue  # the rebuild itself finds out, and says so
