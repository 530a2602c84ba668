"""Reads a partition of the stock topic beside the live path, in chunks that nobody waits for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from inventory.topics import STOCK
from stream.inbox import Record

log = structlog.stdlib.get_logger(__name__)

#: Records of a chunk at most: about 10 ms of work.
CHUNK = 250

_WAIT_MS = 100
_PAUSE = 1.0


class Chunk(NamedTuple):
    """Records in their order; `position` is the offset that is read next."""

    records: Sequence[Record]
    position: int


class Reading(Protocol):
    """One partition, read from an offset on."""

    def ready(self) -> bool:
        """Whether there is a chunk."""
        ...

    def take(self) -> Chunk:
        """The next chunk, once there is one; never empty at an unchanged position."""
        ...

    def stop(self) -> None:
        """Read no more."""
        ...


Read = Callable[[int, int], Reading]
"""Begins to read a partition of the stock topic at an offset."""


class StockReader:
    """Makes readings of the stock topic, without a consumer group."""

    def __init__(self, bootstrap: str, client_id: str, wake: Callable[[], Awaitable[None]]) -> None:
        """Read from these brokers; `wake` is told when a chunk is there."""
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._wake = wake
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, partition: int, offset: int) -> "_StockReading":
        """Begin to read a partition at an offset."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id=f"{self._client_id}-catchup",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        reading = _StockReading(consumer, partition, offset, self._wake)
        self._tasks.add(reading.task)
        reading.task.add_done_callback(self._tasks.discard)
        return reading

    async def close(self) -> None:
        """End all readings, and wait for their connections to close."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _StockReading:
    """See `Reading`: a task fetches one chunk ahead."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        partition: int,
        offset: int,
        wake: Callable[[], Awaitable[None]],
    ) -> None:
        self._consumer = consumer
        self._partition = TopicPartition(STOCK, partition)
        self._position = offset
        self._wake = wake
        self._chunks: asyncio.Queue[Chunk] = asyncio.Queue(1)
        self.task = asyncio.create_task(self._run(), name=f"reading stock {partition}")

    def ready(self) -> bool:
        """See `Reading.ready`; an error that ends the reading is there to be taken, too."""
        return not self._chunks.empty() or self.task.done()

    def take(self) -> Chunk:
        """See `Reading.take`."""
        if self._chunks.empty():
            self.task.result()
        return self._chunks.get_nowait()

    def stop(self) -> None:
        """See `Reading.stop`."""
        self.task.cancel()

    async def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            try:
                await self._fetch_all()
            finally:
                await self._consumer.stop()

    async def _fetch_all(self) -> None:
        while True:
            try:
                await self._consumer.start()
                break
            except KafkaError as exc:
                log.warning("the stock topic cannot be read yet", reason=str(exc))
                await asyncio.sleep(_PAUSE)
        self._consumer.assign([self._partition])
        self._consumer.seek(self._partition, self._position)
        while True:
            try:
                await self._fetch()
            except KafkaError as exc:
                log.warning("the stock topic cannot be read", reason=str(exc))
                await asyncio.sleep(_PAUSE)
                self._consumer.seek(self._partition, self._position)

    async def _fetch(self) -> None:
        fetched = await self._consumer.getmany(
            self._partition, timeout_ms=_WAIT_MS, max_records=CHUNK
        )
        records = fetched.get(self._partition, [])
        position = await self._consumer.position(self._partition)
        if records or position != self._position:
            await self._chunks.put(Chunk(records, position))
            self._position = position
            await self._wake()
