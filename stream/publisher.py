"""Publishes messages with confluent-kafka and says when Kafka has acknowledged them."""

import asyncio
import threading
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from inventory.errors import Outage
from inventory.messages import OutgoingMessage


class Publisher(Protocol):
    """The port through which agents reach the channels."""

    async def publish(self, messages: Sequence[OutgoingMessage]) -> Awaitable[None]:
        """Hand messages over in order; await the result to know that all are acknowledged.

        Raises (from the returned awaitable):
            Outage: a message was given up; nothing after it may be committed.
        """
        ...


class _Receipt:
    """Counts the delivery reports of one batch; called in the polling thread only."""

    __slots__ = ("_done", "_error", "_loop", "_outstanding")

    def __init__(self, outstanding: int, loop: asyncio.AbstractEventLoop) -> None:
        self._outstanding = outstanding
        self._loop = loop
        self._done: asyncio.Future[None] = loop.create_future()
        self._error: KafkaError | None = None

    def __call__(self, error: KafkaError | None, _message: Any) -> None:
        if error is not None:
            self._error = error
        self._outstanding -= 1
        if self._outstanding == 0:
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self._done.cancelled():
            return
        if self._error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(Outage(f"Kafka did not take a message: {self._error.str()}"))

    def __await__(self) -> Any:
        return self._done.__await__()


async def _nothing() -> None:
    """What is there to await when there was nothing to publish."""


class KafkaPublisher:
    """One idempotent producer: a partition's messages arrive once and in the order handed over.

    librdkafka retries for as long as an outage lasts (`message.timeout.ms` 0), because a message
    sent again later would stand behind newer ones of its key.
    """

    def __init__(self, bootstrap: str, client_id: str) -> None:
        """Start the producer and the thread that collects its delivery reports."""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": client_id,
                "acks": "all",
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "linger.ms": 2,
                "compression.type": "lz4",
                # Java's partitioner: consumers that join topics by key find the same partitions.
                "partitioner": "murmur2_random",
                # A dead letter carries an original of up to 1 MiB, and its headers.
                "message.max.bytes": 2 * 1024 * 1024,
                "queue.buffering.max.messages": 200_000,
                "socket.nagle.disable": True,
            }
        )
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="delivery-reports", daemon=True)
        self._poller.start()

    async def publish(self, messages: Sequence[OutgoingMessage]) -> Awaitable[None]:
        """See `Publisher.publish`; waits only while the producer's queue is full."""
        if not messages:
            return _nothing()
        receipt = _Receipt(len(messages), asyncio.get_running_loop())
        produce = self._producer.produce
        for topic, key, value, headers in messages:
            while True:
                try:
                    produce(topic, value, key, headers=headers, on_delivery=receipt)
                    break
                except BufferError:
                    await asyncio.sleep(0.005)
                except KafkaException as exc:
                    raise Outage(f"Kafka did not take a message for {topic}: {exc}") from exc
        return receipt

    def close(self) -> None:
        """Stop collecting reports; what is not acknowledged by now is published again later."""
        self._stopping.set()
        self._poller.join()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)
