"""Batch delivery: what it does, and what it takes for granted in Faust."""

import asyncio
import inspect
from collections import defaultdict
from importlib.metadata import version

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.tables.recovery import Recovery
from faust.transport.base import Transport as BaseTransport
from faust.transport.consumer import Consumer, Fetcher
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as DriverConsumer
from faust.types import TP

from stream.delivery import BatchApp, BatchConsumer, BatchTransport, FetchThread
from stream.inbox import Inbox
from tests.unit.test_inbox import records, run


def test_faust_is_the_version_that_was_read():
    assert version("faust-streaming") == "0.15.3"


def test_every_overridden_method_exists_with_the_same_parameters():
    pairs = [
        (FetchThread._create_worker_consumer, AIOKafkaConsumerThread._create_worker_consumer),
        (BatchConsumer._new_consumer_thread, DriverConsumer._new_consumer_thread),
        (BatchConsumer._drain_messages, Consumer._drain_messages),
        (BatchConsumer._filter_tps_with_pending_acks, Consumer._filter_tps_with_pending_acks),
        (BatchConsumer._new_offset, Consumer._new_offset),
        (BatchConsumer.perform_seek, Consumer.perform_seek),
        (BatchConsumer.verify_all_partitions_active, Consumer.verify_all_partitions_active),
        (BatchApp._new_transport, faust.App._new_transport),
        (BatchApp._create_directories, faust.App._create_directories),
        (BatchApp._consumer_wait_empty, faust.App._consumer_wait_empty),
        (BatchApp._on_partitions_assigned, faust.App._on_partitions_assigned),
        (BatchApp.on_start, faust.App.on_start),
    ]
    for ours, theirs in pairs:
        assert list(inspect.signature(ours).parameters) == list(
            inspect.signature(theirs).parameters
        ), ours.__qualname__


def test_faust_still_calls_them():
    callers = {
        "_drain_messages": Fetcher,
        "_filter_tps_with_pending_acks": Consumer.force_commit,
        "_new_offset": Consumer._filter_committable_offsets,
        "verify_all_partitions_active": Consumer._commit_livelock_detector.fun,
        "_consumer_wait_empty": faust.App._on_partitions_revoked,
    }
    for name, caller in callers.items():
        assert f"{name}" in inspect.getsource(caller), name
    assert "consumer.perform_seek()" in inspect.getsource(Recovery._resume_streams)
    assert "_consumer_wait_empty" in inspect.getsource(faust.App._stop_consumer)
    assert "self._on_partitions_assigned" in inspect.getsource(faust.App._new_consumer)
    assert "self.Consumer" in inspect.getsource(BaseTransport.create_consumer)
    assert BatchTransport.Consumer is BatchConsumer


def test_aiokafka_reads_the_fetch_options_when_it_starts():
    source = inspect.getsource(AIOKafkaConsumer.start)
    assert "self._fetch_max_wait_ms" in source
    assert "self._fetch_min_bytes" in source


def test_faust_still_has_what_is_called():
    for name in (
        "_wait_next_records",
        "can_resume_flow",
        "_should_commit",
        "_committed_offset",
        "seek_wait",
        "highwaters",
    ):
        assert hasattr(DriverConsumer, name) or name in DriverConsumer.__annotations__ | (
            Consumer.__annotations__
        ), name


class Fetching(BatchConsumer):
    """A consumer without Kafka: hands out one fetch, then stops.

    Args:
        committed: by the group.
        begin: the app's.
        during: by the number of the fetch, what happens while it is under way.
        fetches: in all.
    """

    consumer_stopped_errors = ()
    flow_active = True
    should_stop = False

    def __init__(self, inbox, committed, begin=None, during=None, fetches=1):
        self.app = self._thread = self
        self.inbox = inbox
        self.begin = begin
        self.committed = committed
        self._committed_offset = defaultdict(lambda: None)
        self._floor = {}
        self._read_offset = {}
        self._seeking, self._sought = asyncio.Lock(), asyncio.Event()
        self._sought.set()
        self._during = during or {}
        self._fetches = fetches
        self.log_of_seeks = []

    async def _wait_next_records(self, timeout):
        self._fetches -= 1
        self.should_stop = self._fetches <= 0
        happens = self._during.pop(self._fetches, None)
        if happens is not None:
            await happens(self)
            self.should_stop = False
        return {("t", 0): records(5, 6)}, set()

    async def wait(self, event):
        await event.wait()

    async def seek_to_committed(self):
        self.log_of_seeks.append("committed")
        return self.committed

    async def seek_to_beginning(self, *partitions):
        self.log_of_seeks.append(partitions)

    async def seek_wait(self, partitions):
        self.log_of_seeks.append(dict(partitions))

    async def highwaters(self, *partitions):
        return dict.fromkeys(partitions, 100)

    def assignment(self):
        return {TP("t", 0), TP("t", 1)}


def drained(consumer):
    run(BatchConsumer._drain_messages(consumer, consumer))
    return consumer


async def rebalance(consumer):
    await consumer.inbox.drain(patience=1)


def test_a_fetch_is_put_into_the_inbox_whole():
    consumer = drained(Fetching(Inbox(10), {}))
    batch = run(consumer.inbox.take(10))
    assert [record.offset for record in batch.records] == [5, 6]
    assert consumer.log_of_seeks == []


def test_a_fetch_from_before_a_rebalance_is_fetched_again():
    committed = {TP("t", 0): 5, TP("t", 1): None}
    consumer = drained(Fetching(Inbox(10), committed, during={1: rebalance}, fetches=2))
    assert consumer.log_of_seeks == ["committed", (TopicPartition("t", 1),)], (
        "aiokafka does not seek where nothing was committed: those start again from the beginning"
    )
    assert [record.offset for record in run(consumer.inbox.take(10)).records] == [5, 6]


def test_partitions_begin_where_the_app_says_before_anything_is_taken():
    async def begin(committed, ends):
        assert committed == {("t", 0): 5, ("t", 1): None}
        assert await ends([("t", 0)]) == {("t", 0): 100}
        assert not consumer.inbox._queue
        return {("t", 0): 2}

    consumer = Fetching(Inbox(10), {TP("t", 0): 5}, begin)
    run(consumer.perform_seek())
    drained(consumer)
    assert consumer.log_of_seeks == ["committed", {TopicPartition("t", 0): 2}]
    assert consumer._committed_offset == {TP("t", 0): 5}
    assert not consumer._should_commit(TP("t", 0), 3), "what is committed stays so"
    assert consumer._should_commit(TP("t", 0), 6)


def test_a_partition_that_went_back_is_not_committed_below_what_was(monkeypatch):
    """Also on revocation, before which Faust forgets what was committed."""

    async def begin(committed, ends):
        return {("t", 0): 2}

    consumer = Fetching(Inbox(10), {TP("t", 0): 6}, begin)
    run(consumer.perform_seek())
    drained(consumer)
    consumer._committed_offset.pop(TP("t", 0))
    monkeypatch.setattr(consumer.inbox, "confirmed", lambda: {("t", 0): 6, ("t", 1): 3})
    assert consumer._new_offset(TP("t", 0)) is None
    assert consumer._new_offset(TP("t", 1)) == 3
    monkeypatch.setattr(consumer.inbox, "confirmed", lambda: {("t", 0): 7})
    assert consumer._new_offset(TP("t", 0)) == 7


def test_where_to_begin_is_not_asked_before_the_committed_offsets_are_known():
    asked = []

    async def begin(committed, ends):
        asked.append(committed["t", 0])
        return {}

    async def scenario():
        consumer = Fetching(Inbox(10), {TP("t", 0): 5}, begin)
        consumer.begin_again()
        draining = asyncio.create_task(consumer._drain_messages(consumer))
        for _ in range(5):
            await asyncio.sleep(0)
        assert asked == []
        await consumer.perform_seek()
        await draining

    run(scenario())
    assert asked == [5]


def test_a_seek_while_the_app_makes_up_its_mind_has_it_asked_again():
    asked = []

    async def begin(committed, ends):
        asked.append(committed["t", 0])
        if len(asked) == 1:
            consumer.committed = {TP("t", 0): 7}
            await consumer.perform_seek()
        return {("t", 0): 2}

    consumer = Fetching(Inbox(10), {TP("t", 0): 5}, begin)
    run(consumer.perform_seek())
    drained(consumer)
    assert asked == [5, 7]
    assert consumer.log_of_seeks == ["committed", "committed", {TopicPartition("t", 0): 2}]


def test_what_was_fetched_across_a_seek_is_not_taken():
    """It stood at the committed offset, and the app may want to begin before that."""

    async def begin(committed, ends):
        return {("t", 0): 2}

    consumer = Fetching(
        Inbox(10), {TP("t", 0): 5}, begin, {1: BatchConsumer.perform_seek}, fetches=2
    )
    drained(consumer)
    assert consumer.log_of_seeks[-2:] == [(TopicPartition("t", 1),), {TopicPartition("t", 0): 2}]
    assert len(run(consumer.inbox.take(10)).records) == 2
