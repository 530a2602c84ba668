"""A bounded buffer between the fetcher and the agent, and the count of what is in flight."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Record(Protocol):
    """A consumed Kafka record, as aiokafka has it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(slots=True, eq=False)
class Batch:
    """Records taken together, in the order of their partitions.

    Attributes:
        abandoned: its partitions were revoked before it was confirmed; it is not committed.
    """

    records: list[Record]
    abandoned: bool = False
    positions: dict[tuple[str, int], int] = field(init=False)
    """The next offset of each (topic, partition), once all records here have taken effect."""

    def __post_init__(self) -> None:
        """Note how far each partition goes."""
        self.positions = {(r.topic, r.partition): r.offset + 1 for r in self.records}


class Inbox:
    """Hands batches from the fetcher to one agent, and knows what is not confirmed yet.

    Taking has no timer: an idle agent sleeps, a busy one finds a larger batch.
    """

    def __init__(self, limit: int) -> None:
        """Hold at most about `limit` records that no agent has taken."""
        self._limit = limit
        self._queue: deque[Record] = deque()
        self._in_flight: set[Batch] = set()
        self._confirmed: dict[tuple[str, int], int] = {}
        self._changed = asyncio.Condition()
        self.epoch = 0
        """Rises when partitions are revoked: records fetched before must not be put after."""

    async def put(self, records: Iterable[Record], epoch: int) -> bool:
        """Append records once there is room; False if partitions were revoked since `epoch`."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: len(self._queue) < self._limit or epoch != self.epoch
            )
            if epoch != self.epoch:
                return False
            self._queue.extend(records)
            self._changed.notify_all()
            return True

    async def take(self, most: int, unless: Callable[[], bool] = lambda: False) -> Batch:
        """Wait for at least one record and return up to `most`, as a batch in flight.

        While `unless` holds, nobody waits: the batch may be empty, for work of another kind that
        is to be finished like a batch. `wake` has it asked again.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._queue or unless())
            records = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
            batch = Batch(records)
            self._in_flight.add(batch)
            self._changed.notify_all()
            return batch

    async def wake(self) -> None:
        """Have those who wait look again."""
        async with self._changed:
            self._changed.notify_all()

    def begin(self) -> Batch:
        """A batch in flight without records, for work of another kind."""
        batch = Batch([])
        self._in_flight.add(batch)
        return batch

    async def confirm(self, batch: Batch) -> None:
        """Note that all effects of a batch are acknowledged; batches are confirmed in order."""
        async with self._changed:
            self._in_flight.discard(batch)
            if not batch.abandoned:
                self._confirmed.update(batch.positions)
            self._changed.notify_all()

    def confirmed(self) -> dict[tuple[str, int], int]:
        """The offset up to which each (topic, partition) may be committed."""
        return dict(self._confirmed)

    def oldest(self) -> float | None:
        """When the oldest record that is here and not confirmed came into Kafka.

        In seconds since the epoch; None without one.
        """
        taken = (batch.records for batch in self._in_flight if batch.records)
        first = [records[0].timestamp for records in taken]
        if self._queue:
            first.append(self._queue[0].timestamp)
        return min(first) / 1000 if first else None

    async def drain(self, patience: float) -> bool:
        """Forget what no agent has taken, and wait for what one has; False after `patience` s."""
        async with self._changed:
            self.epoch += 1
            self._queue.clear()
            self._changed.notify_all()
            try:
                async with asyncio.timeout(patience):
                    await self._changed.wait_for(lambda: not self._in_flight)
            except TimeoutError:
                return False
            return True

    async def abandon(self) -> None:
        """Give up what is in flight: it is not committed, and nobody waits for it."""
        async with self._changed:
            for batch in self._in_flight:
                batch.abandoned = True
            self._in_flight.clear()
            self._changed.notify_all()

    async def release(self) -> None:
        """Forget the positions of revoked partitions, and abandon what is still in flight."""
        await self.abandon()
        self._confirmed.clear()
