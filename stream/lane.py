"""One topic's producer, which can be given up without touching those of other topics."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from inventory.messages import OutgoingMessage

#: Seconds without an acknowledgement, from a Kafka that answers, after which a topic is given up.
PATIENCE = 3.0

#: Pauses before a topic is tried again, in seconds; the last one repeats.
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

_ANSWER_SECONDS = 1.0

NO_SUCH_TOPIC = "there is no such topic"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a topic takes no messages, and how it will be tried again.

    Attributes:
        since: when it began, in seconds since the epoch.
        attempts: how often it has refused in a row.
        retry_at: not before this, on the clock of `time.monotonic`.
        dropped: messages that were not published since then.
    """

    reason: str
    since: float
    attempts: int
    retry_at: float
    dropped: int = 0

    @property
    def due(self) -> bool:
        """Whether it may be tried again now."""
        return time.monotonic() >= self.retry_at


_Report = Callable[[KafkaError | None, Any], None]


class Receipt:
    """Counts the delivery reports of messages handed over together; resolves to False if refused.

    `report` is called in the polling thread, all else in the loop's.
    """

    __slots__ = ("_done", "_loop", "_outstanding", "handed_at")

    def __init__(self, outstanding: int, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for so many reports."""
        self._outstanding = outstanding
        self._loop = loop
        self._done: asyncio.Future[bool] = loop.create_future()
        self.handed_at = time.monotonic()

    def acknowledge_one(self) -> None:
        """Take one report of success."""
        self._outstanding -= 1
        if self._outstanding == 0 and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.resolve, True)

    def resolve(self, taken: bool) -> None:
        """End the waiting; only the first time counts."""
        if not self._done.done():
            self._done.set_result(taken)

    @property
    def resolved(self) -> bool:
        """Whether it is known what has become of the messages."""
        return self._done.done()

    def __await__(self) -> Generator[Any, None, bool]:
        return self._done.__await__()


class Lane:
    """One topic's idempotent producer.

    librdkafka retries for as long as an outage lasts (`message.timeout.ms` 0), because a message
    sent again later would stand behind newer ones of its key. A topic is given up when Kafka says
    that it will not take a message, or answers and still acknowledges nothing.
    """

    def __init__(
        self, bootstrap: str, client_id: str, topic: str, *, patient: bool = False
    ) -> None:
        """Open the lane; it connects with the first message.

        One that is patient is not given up for silence alone.
        """
        self._patient = patient
        self._config = _config(bootstrap, client_id)
        self._topic = topic
        self._producer: _Polled | None = None
        self._waiting: deque[Receipt] = deque()
        self._answered_at: float | None = None
        self._attempts = 0
        self._refused_at = 0.0
        self._since: float | None = None
        self._dropped = 0
        self.refusal: Refusal | None = None

    async def send(self, messages: Sequence[OutgoingMessage]) -> Receipt:
        """Hand messages over in order; waits only while the producer's queue is full."""
        loop = asyncio.get_running_loop()
        receipt = Receipt(len(messages), loop)
        if self._producer is None and self.refusal is None:
            self._producer = _Polled(self._config)
            await self.look(at_once=True)
        self._forget_resolved()
        if self.refusal is None:
            self._waiting.append(receipt)
        if self._producer is not None:
            report = self._reports(self._producer, receipt, loop)
            for message in messages:
                while not self._produce(message, report):  # noqa: ASYNC110 - no event for it
                    await asyncio.sleep(0.005)
                if self.refusal is not None:
                    break
        if self.refusal is not None:
            self._drop(len(messages), receipt)
        return receipt

    def _reports(
        self, polled: "_Polled", receipt: Receipt, loop: asyncio.AbstractEventLoop
    ) -> _Report:
        """What the polling thread calls for each message."""

        def report(error: KafkaError | None, _message: Any) -> None:
            if error is None:
                receipt.acknowledge_one()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(self._refuse_from, polled, error.str())

        return report

    def _produce(self, message: OutgoingMessage, report: _Report) -> bool:
        """Hand one message over; False if the queue is full."""
        polled = self._producer
        if polled is None:
            return True
        topic, key, value, headers, partition = message
        try:
            if partition is None:
                polled.producer.produce(topic, value, key, headers=headers, on_delivery=report)
            else:
                polled.producer.produce(
                    topic, value, key, partition, headers=headers, on_delivery=report
                )
        except BufferError:
            return False
        except KafkaException as exc:
            self._refuse(exc.args[0].str())
        return True

    def _drop(self, count: int, receipt: Receipt) -> None:
        assert self.refusal is not None
        self._dropped += count
        self.refusal = replace(self.refusal, dropped=self._dropped)
        receipt.resolve(False)

    def _refuse_from(self, polled: "_Polled", reason: str) -> None:
        """Take an error of a message; those of a producer given up before say nothing new."""
        if polled is self._producer:
            self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        if self.refusal is not None:
            return
        pause = PAUSES[min(self._attempts, len(PAUSES) - 1)]
        self._attempts += 1
        self._refused_at = time.monotonic()
        self._since = self._since or time.time()
        retry_at = time.monotonic() + pause
        self.refusal = Refusal(reason, self._since, self._attempts, retry_at, self._dropped)
        self.close()
        while self._waiting:
            self._waiting.popleft().resolve(False)

    def reopen(self) -> bool:
        """Take messages again; False while the pause is not over."""
        if self.refusal is not None and not self.refusal.due:
            return False
        self.refusal = None
        return True

    async def look(self, *, at_once: bool = False) -> None:
        """Give the topic up if Kafka does not know it, or answers but acknowledges nothing.

        Args:
            at_once: look whether the topic exists, though nothing is overdue.
        """
        self._forget_resolved()
        polled = self._producer
        if polled is None:
            return
        overdue = bool(self._waiting) and (time.monotonic() - self._waiting[0].handed_at > PATIENCE)
        if not (overdue or at_once):
            self._answered_at = None
            return
        exists = await asyncio.to_thread(polled.knows, self._topic)
        if polled is not self._producer:
            return
        if exists is None:
            # Kafka does not answer: an outage of all, which is waited for.
            self._answered_at = None
        elif not exists:
            self._refuse(NO_SUCH_TOPIC)
        elif overdue and not self._patient:
            now = time.monotonic()
            self._answered_at = self._answered_at or now
            if now - self._answered_at > PATIENCE / 2:
                self._refuse(f"Kafka answers, but acknowledges nothing for {PATIENCE:.0f} s")

    def _forget_resolved(self) -> None:
        while self._waiting and self._waiting[0].resolved:
            self._waiting.popleft()
            # Not at the first success: the message that is refused may come a little later.
            if self._attempts and time.monotonic() - self._refused_at > PAUSES[-1]:
                self._attempts = 0
                self._since = None
                self._dropped = 0

    def close(self) -> threading.Thread | None:
        """Stop the producer, if there is one; what it has not sent is not sent.

        Returns:
            The thread to join for who wants to see it end.
        """
        polled, self._producer = self._producer, None
        return None if polled is None else polled.stop()


class _Polled:
    """A producer, and the thread that collects its delivery reports."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.producer = Producer(config)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="delivery-reports", daemon=True)
        self._thread.start()

    def knows(self, topic: str) -> bool | None:
        """Whether Kafka has this topic; None if it does not answer."""
        try:
            found = self.producer.list_topics(topic, _ANSWER_SECONDS).topics[topic]
        except KafkaException:
            return None
        return found.error is None or found.error.code() not in (
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError.TOPIC_EXCEPTION,
        )

    def stop(self) -> threading.Thread:
        """Have the thread end, which forgets what has not been sent; does not wait."""
        self._stopping.set()
        return self._thread

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self.producer.poll(0.1)
        self.producer.purge()
        self.producer.poll(0)


def _config(bootstrap: str, client_id: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": 0,
        # A topic that is deleted is said to be gone at once, not after half a minute.
        "topic.metadata.propagation.max.ms": 1000,
        "linger.ms": 2,
        "compression.type": "lz4",
        # Java's partitioner: consumers that join topics by key find the same partitions.
        "partitioner": "murmur2_random",
        # A dead letter carries an original of up to 1 MiB, and its headers.
        "message.max.bytes": 2 * 1024 * 1024,
        "queue.buffering.max.messages": 200_000,
        "socket.nagle.disable": True,
    }
