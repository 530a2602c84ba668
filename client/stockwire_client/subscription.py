"""Subscribing to a channel, blocking.

with Subscription("web", AVAILABILITY, bootstrap="127.0.0.1:19092", group="my-shop") as web:
    web.run(lambda change: print(change.key, change.value))
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, MappingProxyType, TracebackType
from typing import Final, Generic, Self, TypeVar

from stockwire_client.errors import ConfigurationError, InvalidMessage
from stockwire_client.intake import Intake, Signal, Start
from stockwire_client.kafka import KafkaConsumer, open_consumer
from stockwire_client.messages import Change, Kind
from stockwire_client.names import channel_topic

M = TypeVar("M")

#: Keys (or ids) of each partition that stale messages are known by, about 20 MB a partition.
REMEMBER: Final = 100_000

#: How long a stop may go unnoticed, in seconds.
POLL: Final = 0.2

NO_CONFIG: Final[Mapping[str, object]] = MappingProxyType({})


class Subscription(Generic[M]):
    """The messages of one channel, at least once each, to one handler, one after the other.

    On a state channel (availability, level) a message is dropped that is older than the last one
    of its key; on movements and alerts, one whose id was handled. That is remembered per partition
    and for `remember` keys or ids, until a restart or a rebalance takes the partition away; what
    must hold across those (a ledger, a durable cache) compares `version` or ids where it writes.

    An offset is committed only after the handler has returned; what it raises leaves `run`, and
    the same message is the first one of the next `run`. A group that comes back goes on where it
    was; `start` decides for a group that has not committed anything.

    Args:
        channel: its name, such as "web"; "alerts" for the alerts of all channels.
        kind: AVAILABILITY, LEVEL, MOVEMENT or ALERT.
        bootstrap: host:port[,host:port] of Kafka.
        group: members of a group share the partitions.
        start: "snapshot" from everything that Kafka has, "now" from what comes.
        echoes: whether to hand over levels that the channel itself has caused.
        on_poison: given what does not follow the contract, which is then passed; without it `run`
            raises the InvalidMessage.
        on_snapshot_complete: called once, when the whole state was handled.
        config: further settings of librdkafka, such as those of TLS and SASL.
        remember: keys or ids per partition that stale messages are known by.

    Raises:
        ConfigurationError: something given cannot work.
    """

    def __init__(
        self,
        channel: str,
        kind: Kind[M],
        *,
        bootstrap: str,
        group: str,
        start: Start = "snapshot",
        echoes: bool = False,
        on_poison: Callable[[InvalidMessage], None] | None = None,
        on_snapshot_complete: Callable[[], None] | None = None,
        config: Mapping[str, object] = NO_CONFIG,
        remember: int = REMEMBER,
        open_consumer: Callable[[str, str, Mapping[str, object]], KafkaConsumer] = open_consumer,
    ) -> None:
        check_arguments(start, remember)
        self._consumer = open_consumer(bootstrap, group, config)
        self._intake = Intake(
            self._consumer,
            channel_topic(channel),
            kind,
            start=start,
            echoes=echoes,
            remember=remember,
        )
        self._on_poison = on_poison
        self._on_snapshot_complete = on_snapshot_complete
        self._stop = threading.Event()
        self._running = threading.Lock()
        self._runner: int | None = None
        self._closed = False
        self._intake.subscribe()

    @property
    def snapshot_complete(self) -> bool:
        """Whether every partition that this member reads has shown the whole state, all handled.

        The end of a back-fill is marked by Stockwire. Where none was at work within a day, the
        state is whole when the partition was read to its end once (an empty topic at once).
        False while this member has no partition.
        """
        return self._intake.snapshot_complete

    def run(self, handler: Callable[[Change[M]], object]) -> None:
        """Hand over each change until `stop` or `close` is called.

        The first Ctrl-C lets the handler finish, then raises KeyboardInterrupt; a second one
        raises it at once. Only in the main thread, and only where Python's own handler is set.

        Raises:
            InvalidMessage: a message does not follow the contract, and there is no `on_poison`.
            Refused: the channel does not exist or may not be read.
            Unavailable: Kafka did not answer when it had to.
        """
        with self._running, _finishing(self._stop):
            if self._closed:
                raise ConfigurationError("The subscription is closed: open another one.")
            self._runner = threading.get_ident()
            try:
                while not self._stop.is_set():
                    item = self._intake.next()
                    if item is None:
                        self._intake.fetch(POLL)
                    else:
                        self._handle(item, handler)
                        self._intake.done(item)
            finally:
                self._runner = None
                self._stop.clear()

    def stop(self) -> None:
        """Let `run` return after the message at hand; may be called from anywhere."""
        self._stop.set()

    def close(self) -> None:
        """Stop, commit what was handled and leave the group.

        Raises:
            ConfigurationError: it is called by a handler, which can only `stop`.
        """
        if self._runner == threading.get_ident():
            raise ConfigurationError("A handler cannot close its subscription: call stop().")
        self._stop.set()
        with self._running:
            if not self._closed:
                self._closed = True
                self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _handle(
        self, item: Change[M] | InvalidMessage | Signal, handler: Callable[[Change[M]], object]
    ) -> None:
        if isinstance(item, Change):
            handler(item)
        elif isinstance(item, Signal):
            if self._on_snapshot_complete is not None:
                self._on_snapshot_complete()
        elif self._on_poison is None:
            raise item
        else:
            self._on_poison(item)


def check_arguments(start: str, remember: int) -> None:
    """Refuse what cannot work.

    Raises:
        ConfigurationError: it cannot.
    """
    if start not in ("snapshot", "now"):
        raise ConfigurationError(f'start is {start!r}: say "snapshot" or "now".')
    if remember < 1:
        raise ConfigurationError(f"remember is {remember}: at least one key must be remembered.")


@contextmanager
def _finishing(stop: threading.Event) -> Iterator[None]:
    """Turn the first Ctrl-C into a stop, as `asyncio.run` does, and raise it in the end."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    interrupted = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            signal.default_int_handler(number, frame)
        interrupted = True
        stop.set()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupted:
        raise KeyboardInterrupt
