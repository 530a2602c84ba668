"""What batch delivery takes for granted in Faust: fails when a new version breaks it."""

import inspect
from importlib.metadata import version

import faust
from aiokafka import AIOKafkaConsumer
from faust.transport.base import Transport as BaseTransport
from faust.transport.consumer import Consumer, Fetcher
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as DriverConsumer

from stream.delivery import BatchApp, BatchConsumer, BatchTransport, FetchThread


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
