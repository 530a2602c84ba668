"""Commit → Redis as a reader sees it: when is a SKU's availability written, and of which commit?

Redis says that a key was written (keyspace notifications), not with what, so the commit time is
read right after. A SKU that is written again in between would lend the later commit's time to the
earlier write. Notifications and replies therefore share one RESP3 connection, where they come in
the order in which Redis worked: a reply belongs to its notification if no other notification of
the SKU came before it. The rest is counted as overtaken and not as a latency.
"""

import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import hiredis
from pydantic import RedisDsn

from bench.arrivals import REDIS, Arrivals
from inventory.errors import Outage
from inventory.names import stock_key
from inventory.projection import SkuProjection
from projections.codec import decode_projection
from projections.fields import PUBLISHED
from stockwire_client.names import availability_key

#: Keyspace channels (`K`) of hash commands (`h`).
_NEEDED_EVENTS = "Kh"
_AVAILABILITY, _STOCK = (
    key("").partition("{")[0].encode() for key in (availability_key, stock_key)
)
_POLL_SECONDS = 0.1
_END = b"stockwire: the end"
_ANSWER_SECONDS = 5.0

_Command: TypeAlias = tuple[str | bytes | int, ...]
# Its stub allows one argument only.
_pack: Callable[[_Command], bytes] = hiredis.pack_command  # type: ignore[assignment]


class Pairing:
    """Pairs each write of a SKU with the commit that it shows, in the order of one connection."""

    def __init__(self, arrivals: Arrivals) -> None:
        """Count them there."""
        self._arrivals = arrivals
        self._asked: deque[tuple[bytes, int]] = deque()
        self._writes: Counter[bytes] = Counter()
        self.overtaken = 0
        """Writes whose commit is not known: the next write came before it could be read."""

    def written(self, sku: bytes, arrived_us: int) -> None:
        """A SKU was written; its commit time must be asked for next."""
        self._asked.append((sku, arrived_us))
        self._writes[sku] += 1

    def answered(self, projection: SkuProjection | None) -> None:
        """The answer to the oldest question; None when the SKU has no projection."""
        sku, arrived_us = self._asked.popleft()
        self._writes[sku] -= 1
        if self._writes[sku]:
            self.overtaken += 1
        else:
            del self._writes[sku]
            if projection is not None:
                version = str(projection.version).encode()
                self._arrivals.add(REDIS, sku, version, projection.committed_us, arrived_us)


class RedisObserver:
    """Watches every `availability:{sku}` hash.

    Made, it is subscribed: every later write is seen. `close` gives the server its own
    `notify-keyspace-events` back.
    """

    def __init__(self, url: RedisDsn, arrivals: Arrivals) -> None:
        """Connect and subscribe.

        Raises:
            Outage: Redis does not answer, or refuses.
        """
        database = int((url.path or "/0").removeprefix("/") or 0)
        self._prefix = f"__keyspace@{database}__:".encode()
        self._arrivals = arrivals
        self._pairing = Pairing(arrivals)
        self._reader = hiredis.Reader()
        self._ended = False
        with _outages():
            self._socket = socket.create_connection(
                (url.host or "127.0.0.1", url.port or 6379), timeout=_ANSWER_SECONDS
            )
            login = ("AUTH", url.username or "default", url.password) if url.password else ()
            self._call("HELLO", 3, *login)
            self._call("SELECT", database)
            events = self._call("CONFIG", "GET", "notify-keyspace-events")
            self._events_before = events[b"notify-keyspace-events"].decode()
            wanted = self._events_before + _NEEDED_EVENTS
            self._call("CONFIG", "SET", "notify-keyspace-events", wanted)
            # The glob has no special characters but the star: `[` and `?` do not occur in it.
            self._call("PSUBSCRIBE", self._prefix + availability_key("*").encode())
            self._socket.settimeout(_POLL_SECONDS)

    @property
    def overtaken(self) -> int:
        """Writes that are not among the latencies, see `Pairing.overtaken`."""
        return self._pairing.overtaken

    def run(self, stopping: threading.Event) -> None:
        """Observe until told to stop, and then what was written by that time.

        Raises:
            Outage: Redis is gone.
        """
        with _outages():
            while not stopping.is_set():
                with suppress(TimeoutError):
                    self._take(self._receive())
                self._arrivals.settle(time.time_ns() // 1000)
            # Its answer comes behind all that; silence would not do, a load may go on.
            self._send([("PING", _END)])
            while not self._ended:
                self._take(self._receive())
        self._arrivals.settle()

    def close(self) -> None:
        """Set the server back and disconnect.

        Raises:
            Outage: Redis is gone.
        """
        with _outages(), self._socket:
            self._socket.settimeout(_ANSWER_SECONDS)
            self._send([("CONFIG", "SET", "notify-keyspace-events", self._events_before)])
            # Behind questions that are not answered yet: read until the last answer.
            while b"OK" not in self._receive():
                continue

    def _take(self, messages: Iterable[Any]) -> None:
        """What came in one read; all of it arrived now."""
        now = time.time_ns() // 1000
        questions: list[_Command] = []
        for message in messages:
            if isinstance(message, hiredis.PushNotification):
                _, _, channel, event = message
                if event == b"hset":
                    tag = channel[len(self._prefix) + len(_AVAILABILITY) :]
                    self._pairing.written(tag, now)
                    questions.append(("HGET", _STOCK + tag, PUBLISHED))
            elif message == _END:
                self._ended = True
            else:
                self._pairing.answered(None if message is None else decode_projection("", message))
        if questions:
            self._send(questions)

    def _call(self, *command: str | bytes | int) -> Any:
        self._send([command])
        while not (messages := list(self._receive())):
            continue
        return messages[0]

    def _send(self, commands: Iterable[_Command]) -> None:
        self._socket.sendall(b"".join(_pack(command) for command in commands))

    def _receive(self) -> list[Any]:
        """Whole messages of one read, perhaps none; an error among them is raised."""
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the connection was closed")
        self._reader.feed(data)
        messages = list(self._complete())
        for message in messages:
            if isinstance(message, hiredis.ReplyError):
                raise message
        return messages

    def _complete(self) -> Iterator[Any]:
        while (message := self._reader.gets()) is not False:
            yield message


@contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except (OSError, hiredis.HiredisError) as exc:
        raise Outage(f"Redis cannot be observed ({exc}); see that it runs: make status.") from exc
