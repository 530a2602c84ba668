"""Subscribing to a channel with asyncio.

async with AsyncSubscription("web", AVAILABILITY, bootstrap="…:19092", group="my-shop") as web:
    await web.run(handler)
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from stockwire_client.errors import ConfigurationError, InvalidMessage
from stockwire_client.intake import Intake, Signal, Start
from stockwire_client.kafka import KafkaConsumer, open_consumer
from stockwire_client.messages import Change, Kind
from stockwire_client.names import channel_topic
from stockwire_client.subscription import NO_CONFIG, POLL, REMEMBER, check_arguments

M = TypeVar("M")

#: Records that one visit to the fetching thread brings.
_FETCH: Final = 500


class AsyncSubscription(Generic[M]):
    """`Subscription` for asyncio: the same arguments and promises.

    Handler and callbacks are awaited.

    Records are fetched by a thread of its own, handlers run in the event loop, and never both at
    once. Cancelling the task that awaits `run` stops it; a cancelled handler's message is not
    committed. `close` waits for up to POLL seconds, and for the commit.
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
        on_poison: Callable[[InvalidMessage], Awaitable[None]] | None = None,
        on_snapshot_complete: Callable[[], Awaitable[None]] | None = None,
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
        self._running = asyncio.Lock()
        self._runner: asyncio.Task[object] | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stockwire-client")
        self._intake.subscribe()

    @property
    def snapshot_complete(self) -> bool:
        """See `Subscription.snapshot_complete`."""
        return self._intake.snapshot_complete

    async def run(self, handler: Callable[[Change[M]], Awaitable[object]]) -> None:
        """See `Subscription.run`; Ctrl-C is left to `asyncio.run`, which cancels the task."""
        async with self._running:
            if self._closed:
                raise ConfigurationError("The subscription is closed: open another one.")
            self._runner = asyncio.current_task()
            try:
                while not self._stop.is_set():
                    item = self._intake.next()
                    if item is None:
                        await self._fetch()
                    else:
                        await self._handle(item, handler)
                        self._intake.done(item)
            finally:
                self._runner = None
                self._stop.clear()

    def stop(self) -> None:
        """See `Subscription.stop`."""
        self._stop.set()

    async def close(self) -> None:
        """Stop, commit what was handled and leave the group.

        Raises:
            ConfigurationError: it is called by a handler, which can only `stop`.
        """
        if self._runner is not None and self._runner is asyncio.current_task():
            raise ConfigurationError("A handler cannot close its subscription: call stop().")
        self._stop.set()
        async with self._running:
            if not self._closed:
                self._closed = True
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._consumer.close)
                self._thread.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def _fetch(self) -> None:
        """Let the thread fetch, and wait until it has: cancelled or not, it ends within POLL."""
        loop = asyncio.get_running_loop()
        fetching = loop.run_in_executor(self._thread, self._intake.fetch, POLL, _FETCH)
        try:
            await asyncio.shield(fetching)
        except asyncio.CancelledError:
            await asyncio.wait([fetching])
            raise

    async def _handle(
        self,
        item: Change[M] | InvalidMessage | Signal,
        handler: Callable[[Change[M]], Awaitable[object]],
    ) -> None:
        if isinstance(item, Change):
            await handler(item)
        elif isinstance(item, Signal):
            if self._on_snapshot_complete is not None:
                await self._on_snapshot_complete()
        elif self._on_poison is None:
            raise item
        else:
            await self._on_poison(item)
