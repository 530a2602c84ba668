"""How long a change may be in flight: until all that was committed by then has arrived.

Not a time but a proof. A heartbeat of Postgres that is later than the moment is in Kafka, and with
it, since one connector writes them in order, every commit before. What the topics held then has
been confirmed by both groups and is in Redis, and what they told the channels has been read here.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias

#: Offsets by topic and partition.
Offsets: TypeAlias = Mapping[tuple[str, int], int]


class Pipeline(Protocol):
    """How far everybody is. Every method may raise `Outage`."""

    def beat_us(self) -> int:
        """When the newest heartbeat in Kafka was written, on Postgres' clock, in µs."""
        ...

    def captured(self) -> Offsets:
        """Where the topics end that the workers read."""
        ...

    def behind(self, ends: Offsets) -> str | None:
        """Who has not done all before these offsets; None if everybody has."""
        ...

    def published(self, topics: Iterable[str]) -> Offsets:
        """Where the channels' topics end."""
        ...

    def unread(self, ends: Offsets) -> str | None:
        """Which topic has not been read here to these offsets; None if all have."""
        ...


class Flight:
    """Waits for what was committed up to a moment; `landed` goes on from call to call.

    Args:
        pipeline: who is asked.
        since_us: the moment, on Postgres' clock.
        topics: of the channels.
    """

    def __init__(self, pipeline: Pipeline, since_us: int, topics: Iterable[str]) -> None:
        self._pipeline = pipeline
        self._since_us = since_us
        self._topics = tuple(topics)
        self._steps: list[Callable[[], str | None]] = [
            self._beat,
            self._workers,
            self._readers,
        ]
        self._captured: Offsets | None = None
        self._published: Offsets | None = None
        #: What it waits for, for people.
        self.waits_for = "a heartbeat of Postgres in Kafka"

    def landed(self) -> bool:
        """Whether all has arrived.

        Raises:
            Outage: somebody does not answer.
        """
        while self._steps:
            waits_for = self._steps[0]()
            if waits_for is not None:
                self.waits_for = waits_for
                return False
            del self._steps[0]
        return True

    def _beat(self) -> str | None:
        late = self._pipeline.beat_us() <= self._since_us
        return "a heartbeat of Postgres in Kafka" if late else None

    def _workers(self) -> str | None:
        if self._captured is None:
            self._captured = self._pipeline.captured()
        return self._pipeline.behind(self._captured)

    def _readers(self) -> str | None:
        if self._published is None:
            self._published = self._pipeline.published(self._topics)
        return self._pipeline.unread(self._published)
