"""Who rebuilds, on which server: the lock, and what every write is fenced by."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self
from uuid import uuid4

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock as RedisLock
from redis.retry import Retry

from inventory.errors import Outage, RebuildError
from projections.outage import redis_outages

#: Who rebuilds now.
LOCK_KEY = "stockwire:rebuild:lock"

_LOCK_SECONDS = 15.0
_BEAT_SECONDS = 5.0
#: Who leaves waits so long for the lock to be given back.
_LEAVE_SECONDS = 3.0
#: A Redis that does not answer for so long is away.
_REDIS_SECONDS = 20.0

LOCK_LOST = "The lock of the rebuild was lost; start it again, it goes on."


class Session(NamedTuple):
    """One run of one rebuild.

    Attributes:
        owner: what its lock holds, and the progress of the space that it writes.
        run_id: of the server as the run began: another one may lack some of what was written.
    """

    owner: str
    run_id: str


def open_redis(url: str) -> Redis:
    """A client that does not wait for ever, nor several times as long: nothing is sent again."""
    return Redis.from_url(
        url,
        socket_timeout=_REDIS_SECONDS,
        socket_connect_timeout=_REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def run_id_of(redis: Redis) -> str:
    """Which run of which server answers.

    Raises:
        Outage: Redis does not answer.
    """
    with redis_outages():
        return str(redis.info("server")["run_id"])


class Lock:
    """Held by the one rebuild that runs; `held` takes it.

    It is looked at now and then (`check`); what must not happen without it asks for it in the same
    script (`owner`).
    """

    def __init__(self, redis: Redis) -> None:
        self.owner = f"{socket.gethostname()} {os.getpid()} {uuid4().hex[:8]}"
        self._redis = redis
        # The thread that holds it on is another one than that which takes it.
        self._lock = RedisLock(redis, LOCK_KEY, _LOCK_SECONDS, blocking=False, thread_local=False)
        self._over = threading.Event()

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
            if not lock._lock.acquire(token=lock.owner):
                holder: Any = redis.get(LOCK_KEY) or b"?"
                raise RebuildError(
                    f"A rebuild runs already (host and process {holder.decode()}); wait for it, or "
                    f"{_LOCK_SECONDS:.0f} s if it was killed."
                )
        beat = threading.Thread(target=lock._keep, name="lock of the rebuild", daemon=True)
        beat.start()
        try:
            yield lock
        finally:
            lock._over.set()
            # A Redis that does not answer holds nobody up who wants to leave: the lock expires.
            beat.join(_LEAVE_SECONDS)

    def check(self) -> None:
        """Look whether it is still held.

        Raises:
            RebuildError: somebody else may have begun.
            Outage: Redis does not answer.
        """
        with redis_outages():
            if not self._lock.owned():
                raise RebuildError(LOCK_LOST)

    def _keep(self) -> None:
        """Hold the lock on until all is over, and give it back."""
        try:
            while not self._over.wait(_BEAT_SECONDS):
                try:
                    with redis_outages():
                        self._lock.reacquire()
                except Outage:
                    continue  # the rebuild itself finds out, and says so
            with redis_outages():
                self._lock.release()
        except LockNotOwnedError:
            return  # another's by now, or expired; the next `check` finds out, and says so
        except Outage:
            return  # it expires
