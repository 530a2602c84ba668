"""How fresh storefront and channels are: rows that are committed all the time and looked for.

Ten times a second a transaction counts up the stock of one SKU per partition. A place (Redis, or a
channel's topic) is fresh while it has, of every partition, a number that was committed less than a
second ago.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
import redis

from stockwire_client.names import availability_key

WAREHOUSE = "WH-1"
FRESH_SECONDS = 1.0
_COMMIT_EVERY = 0.1
_LOOK_EVERY = 0.02
_COUNT_UP = "UPDATE inventory.stock SET on_hand = %s, reason = 'probe' WHERE sku = ANY(%s)"


class Probe:
    """Commits and looks, in threads of its own."""

    def __init__(self, conninfo: str, redis_url: str, skus: Sequence[str]) -> None:
        """`skus` has one of each partition."""
        self._conninfo = conninfo
        self._redis_url = redis_url
        self._skus = list(skus)
        self._committed: dict[int, float] = {}
        self._seen: dict[str, dict[str, int]] = {"redis": {}, "web": {}, "wms": {}}
        self._stale_at: dict[str, float] = {}
        self._latencies: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._may_commit = threading.Event()
        self._may_commit.set()
        self._idle = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        for work in (self._commit, self._look):
            self._threads.append(threading.Thread(target=work, daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Commit nothing while inside: what is compared must stand still."""
        self._idle.clear()
        self._may_commit.clear()
        assert self._idle.wait(30), "the probe does not come to rest"
        try:
            yield
        finally:
            self._may_commit.set()

    def told(self, place: str, sku: str, units: int) -> None:
        """A channel was told of a probe."""
        if sku in self._skus:
            self._seen[place][sku] = units

    def fresh(self) -> bool:
        """Whether every place is fresh now."""
        now = time.monotonic()
        return all(now - self._oldest(place) < FRESH_SECONDS for place in self._seen)

    def wait_until_fresh(self, patience: float, steady: float = 2.0) -> bool:
        """Wait until every place is fresh for `steady` seconds from now; False if not in time."""
        begun = time.monotonic()
        while time.monotonic() < begun + patience + steady:
            last = max([*self._stale_at.values(), begun])
            if self.fresh() and time.monotonic() - last > steady:
                return True
            time.sleep(_LOOK_EVERY)
        return False

    def last_stale(self, since: float) -> dict[str, float | None]:
        """By place, when it was last not fresh after `since`; None if it always was."""
        return {
            place: at if (at := self._stale_at.get(place, 0.0)) > since else None
            for place in self._seen
        }

    def latencies(self, since: float) -> list[float]:
        """Commit to Redis, in seconds, of the probes committed after `since`."""
        return [late for at, late in self._latencies if at >= since]

    def _oldest(self, place: str) -> float:
        """When the oldest of the numbers that a place has was committed."""
        seen = self._seen[place]
        return min(self._committed.get(seen.get(sku, -1), 0.0) for sku in self._skus)

    def _commit(self) -> None:
        number = int(time.time() * 10) % 1_000_000_000
        connection: psycopg.Connection | None = None
        while not self._stop.is_set():
            if not self._may_commit.is_set():
                self._idle.set()
                self._may_commit.wait(_COMMIT_EVERY)
                continue
            begun = time.monotonic()
            number += 1
            # It may be seen before the commit is answered, or not be answered at all.
            self._committed[number] = begun
            try:
                if connection is None or connection.broken:
                    connection = psycopg.connect(
                        self._conninfo, autocommit=True, prepare_threshold=None, connect_timeout=3
                    )
                connection.execute(_COUNT_UP, [number, self._skus])
                self._committed[number] = time.monotonic()
            except psycopg.Error:
                # A fault; the next one tries again.
                self._stop.wait(_COMMIT_EVERY)
                continue
            self._stop.wait(max(0.0, begun + _COMMIT_EVERY - time.monotonic()))
        if connection is not None:
            connection.close()

    def _look(self) -> None:
        client = redis.Redis.from_url(
            self._redis_url, socket_timeout=1, socket_connect_timeout=1, decode_responses=True
        )
        best = 0
        while not self._stop.wait(_LOOK_EVERY):
            try:
                pipe = client.pipeline(transaction=False)
                for sku in self._skus:
                    pipe.hget(availability_key(sku), "web")
                for sku, units in zip(self._skus, pipe.execute(), strict=True):
                    if units is None:
                        self._seen["redis"].pop(sku, None)
                    else:
                        self._seen["redis"][sku] = int(units)
            except redis.RedisError:
                self._seen["redis"].clear()
            now = time.monotonic()
            everywhere = min((self._seen["redis"].get(sku, 0) for sku in self._skus), default=0)
            if everywhere > best and everywhere in self._committed:
                best = everywhere
                self._latencies.append((self._committed[best], now - self._committed[best]))
            self._judge(now)
        client.close()

    def _judge(self, now: float) -> None:
        for place in self._seen:
            if now - self._oldest(place) >= FRESH_SECONDS:
                self._stale_at[place] = now


def choose(
    partition_of: Callable[[str], int | None], names: Sequence[str], partitions: int
) -> list[str]:
    """One SKU of each partition."""
    found: dict[int, str] = {}
    for name in names:
        number = partition_of(name)
        if number is not None:
            found.setdefault(number, name)
    assert len(found) == partitions, f"the probes reach only partitions {sorted(found)}"
    return [found[number] for number in sorted(found)]
