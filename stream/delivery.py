"""Batch delivery on Faust: the only module that leans on Faust's internals.

Faust's consumer thread, group membership, rebalancing, flow control and commit loop are used as
they are. What is replaced is the path of each message from the fetcher to the agent (two tasks,
an event, a queue and a stream per message, about 60 µs) and the bookkeeping of acknowledged
offsets: batches are confirmed in order, so one number per partition says what may be committed,
compaction gaps included. `tests/unit/test_delivery.py` fails when Faust changes under it.
See docs/decisions/0003-batch-delivery.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP
from mode import Service

from inventory.errors import Outage, StockwireError
from stream.inbox import Inbox

#: A revoked partition waits this long, in seconds, for its batch in flight; the coordinator
#: waits longer (aiokafka's rebalance timeout is `max_poll_interval_ms`, five minutes).
DRAIN_TIMEOUT = 10.0


#: A fetch waits this long, in ms, for as many bytes: fewer and larger batches. With Kafka's one
#: byte, two workers at 1,000 changes/s filled both cores with batches of seven.
FETCH_WAIT_MS = 8
FETCH_BYTES = 64 * 1024


Partition = tuple[str, int]

Begin = Callable[
    [
        Mapping[Partition, int | None],
        Callable[[Collection[Partition]], Awaitable[Mapping[Any, int]]],
    ],
    Awaitable[Mapping[Partition, int]],
]
"""Says which of the assigned partitions do not begin where the group has committed (None: nothing),
and where they do; may ask where they end."""


class FetchThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust fixes the fetch options; aiokafka reads these when it starts."""

    def _create_worker_consumer(self, transport: Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        consumer._fetch_min_bytes = FETCH_BYTES
        return consumer


class BatchConsumer(Consumer):  # type: ignore[misc]
    """Puts whole fetches into the app's inbox, and commits what the inbox has confirmed."""

    #: Whether all partitions stand where they are to begin, and counts the seeks that undo it.
    _begun = False
    _seeks = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: What the group has committed. Faust forgets it when partitions are revoked, and would
        #: then commit a lower offset of one that went back.
        self._floor: dict[TP, int] = {}
        self._seeking = asyncio.Lock()
        self._sought = asyncio.Event()

    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Faust's way to the committed offsets, after each assignment; `_begin` comes after it."""
        self.begin_again()
        seeks = self._seeks
        async with self._seeking:
            await super().perform_seek()
        if seeks == self._seeks:
            self._sought.set()

    def begin_again(self) -> None:
        """Take nothing before the committed offsets are known, and where each partition begins."""
        self._seeks += 1
        self._begun = False
        self._sought.clear()

    async def _begin(self) -> None:
        """Go where the app wants to begin, from where the group has committed.

        In the fetcher's task and not in Faust's recovery, which gives up after a while: to know
        where to begin may take as long as Redis is away. A seek that comes between has it done
        again. What is committed stays so (`_floor`).
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        await self.wait(self._sought)
        if self.should_stop:
            return
        seeks, assigned = self._seeks, self.assignment()
        self._floor = {tp: self._committed_offset.get(tp) or 0 for tp in assigned}
        starts: Mapping[Partition, int] = {}
        if self.app.begin is not None:
            starts = await self.app.begin(
                {tuple(tp): self._committed_offset.get(tp) for tp in assigned},
                lambda partitions: self.highwaters(*(TopicPartition(*tp) for tp in partitions)),
            )
        async with self._seeking:
            if seeks != self._seeks:
                return
            try:
                if starts:
                    await self.seek_wait({TopicPartition(*tp): at for tp, at in starts.items()})
            except IllegalStateError:
                return  # a rebalance has begun, and there is a seek at its end
            self._begun = seeks == self._seeks
        await self.app.inbox.wake()

    async def _drain_messages(self, fetcher: Service) -> None:
        inbox: Inbox = self.app.inbox
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self._begun:
                    await self._begin()
                    continue
                epoch = inbox.epoch
                fetched, _ = await self._wait_next_records(timeout=1.0)
                records = [record for part in (fetched or {}).values() for record in part]
                if not records:
                    await asyncio.sleep(0)
                elif not (self._begun and await inbox.put(records, epoch)):
                    # A rebalance came between: go back to what is committed, or these are lost.
                    await self._go_back()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    async def _go_back(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        await self.perform_seek()
        # aiokafka leaves a partition where it is if nothing was ever committed for it.
        new = [TopicPartition(*tp) for tp in self.assignment() if not self._committed_offset[tp]]
        if new:
            await self._thread.seek_to_beginning(*new)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (
            TP(*tp)
            for tp in self.app.inbox.confirmed()
            if topics is None or tp in topics or tp[0] in topics
        )

    def _new_offset(self, tp: TP) -> int | None:
        offset: int = self.app.inbox.confirmed().get(tp, 0)
        return offset if offset > self._floor.get(tp, 0) else None

    async def verify_all_partitions_active(self) -> None:
        """Faust's detector watches its own streams, which are not used here."""


class BatchTransport(Transport):  # type: ignore[misc]
    """aiokafka's transport, with the consumer above."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer


class BatchApp(faust.App):  # type: ignore[misc]
    """A Faust app whose agent takes batches from an inbox.

    Call `consume` before the app starts.

    Attributes:
        begin: asked after each assignment, before the first record; without it, every partition
            begins where the group has committed. Set it before the start.
    """

    def __init__(self, *args: Any, inbox: Inbox, **kwargs: Any) -> None:
        """Take the arguments of `faust.App`, and the inbox that the agent takes from."""
        super().__init__(*args, **kwargs)
        self.inbox = inbox
        self._agent: Callable[[Inbox], Coroutine[Any, Any, None]] | None = None
        self._held: frozenset[TP] | None = None
        self.begin: Begin | None = None

    def consume(
        self, topics: Iterable[str], agent: Callable[[Inbox], Coroutine[Any, Any, None]]
    ) -> None:
        """Subscribe to topics of raw bytes, and let `agent` empty the inbox while the app runs."""
        for topic in topics:
            self.topics.add(self.topic(topic, key_type=bytes, value_type=bytes))
        self._agent = agent

    def partitions(self, topic: str) -> frozenset[int]:
        """The partitions of a topic that this worker holds now; none during a rebalance."""
        return frozenset(tp.partition for tp in self._held or () if tp.topic == topic)

    def held(self) -> frozenset[Partition] | None:
        """All partitions that this worker holds now; None during a rebalance."""
        return self._held

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        # Before the first record of them can come: who knows the partitions knows it then.
        self._held = frozenset(assigned)
        self.consumer.begin_again()
        await super()._on_partitions_assigned(assigned, generation_id)
        await self.inbox.wake()

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self, loop=self.loop)

    def _create_directories(self) -> None:
        """Keep nothing on disk: there are no tables."""

    async def on_start(self) -> None:
        """Start the agent first: a full inbox without one would block the first rebalance."""
        if self._agent is None:
            raise StockwireError("BatchApp was started without an agent: call consume() first.")
        self.run_beside(self._agent(self.inbox), "The agent")
        await super().on_start()

    def run_beside(self, coroutine: Coroutine[Any, Any, None], what: str) -> None:
        """Run something without which the app must not go on; if it ends, the app ends."""
        self.add_future(self._guard(coroutine, what))

    async def _guard(self, coroutine: Coroutine[Any, Any, None], what: str) -> None:
        reason: BaseException = StockwireError(f"{what} has ended by itself; starting again.")
        try:
            await coroutine
        except BaseException as exc:  # noqa: BLE001 - any fault ends the process before the commit
            reason = exc
        if not self.should_stop:
            await self.inbox.abandon()
            await self.crash(reason)

    async def _consumer_wait_empty(self, consumer: BatchConsumer, logger: Any) -> None:
        """Faust's hook on revocation and on shutdown: finish the batch in hand and commit it."""
        self._held = None
        drained = await self.inbox.drain(DRAIN_TIMEOUT)
        await consumer.commit()
        await self.inbox.release()
        if not drained:
            logger.warning("a batch in flight was not confirmed in %s s", DRAIN_TIMEOUT)
            if not self.should_stop:
                # Whoever gets the partitions publishes newer states; ours must not come after.
                await self.crash(Outage(f"a batch took longer than {DRAIN_TIMEOUT} s to finish"))
