"""Batch delivery: what it does, and what it takes for granted in Faust."""

import inspect
from importlib.metadata import version

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
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
    assert "_consumer_wait_empty" in inspect.getsource(faust.App._stop_consumer)
    assert "self._on_partitions_assigned" in inspect.getsource(faust.App._new_consumer)
    assert "self.Consumer" in inspect.getsource(BaseTransport.create_consumer)
    assert BatchTransport.Consumer is BatchConsumer


def test_aiokafka_reads_the_fetch_options_when_it_starts():
    source = inspect.getsource(AIOKafkaConsumer.start)
    assert "self._fetch_max_wait_ms" in source
    assert "self._fetch_min_bytes" in source


def test_faust_still_has_what_is_called():
    for name in ("_wait_next_records", "perform_seek", "can_resume_flow", "_should_commit"):
        assert hasattr(DriverConsumer, name) or name in DriverConsumer.__annotations__ | (
            Consumer.__annotations__
        ), name


class Fetching:
    """What `_drain_messages` needs of a consumer: hands out one fetch, then stops."""

    consumer_stopped_errors = ()
    flow_active = True

    def __init__(self, inbox, committed, rebalance):
        self.app = self
        self.inbox = inbox
        self.should_stop = False
        self._committed_offset = committed
        self._rebalance = rebalance
        self._thread = self
        self.sought = []

    async def _wait_next_records(self, timeout):
        if self.should_stop is None:
            self.should_stop = True
            return {}, set()
        self.should_stop = None
        if self._rebalance:
            await self.inbox.drain(patience=1)
        return {("t", 0): records(5, 6)}, set()

    async def perform_seek(self):
        self.sought.append("committed")

    async def seek_to_beginning(self, *partitions):
        self.sought.append(partitions)

    def assignment(self):
        return {TP("t", 0), TP("t", 1)}

    _go_back = BatchConsumer._go_back


def drained(consumer):
    run(BatchConsumer._drain_messages(consumer, consumer))
    return consumer


def test_a_fetch_is_put_into_the_inbox_whole():
    consumer = drained(Fetching(Inbox(10), {}, rebalance=False))
    batch = run(consumer.inbox.take(10))
    assert [record.offset for record in batch.records] == [5, 6]
    assert consumer.sought == []


def test_a_fetch_from_before_a_rebalance_is_fetched_again():
    committed = {TP("t", 0): 5, TP("t", 1): None}
    consumer = drained(Fetching(Inbox(10), committed, rebalance=True))
    assert consumer.sought == ["committed", (TopicPartition("t", 1),)], (
        "aiokafka does not seek where nothing was committed: those start again from the beginning"
    )
    assert not consumer.inbox._queue
