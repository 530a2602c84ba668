"""What the workers have not done yet: records in the stock topic behind their committed offsets."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from inventory.errors import Outage
from inventory.groups import GROUPS
from inventory.topics import STOCK

_TIMEOUT_SECONDS = 30
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Position:
    """Where the stock topic ends and how far each group has committed, added up over partitions.

    Workers commit once a second, and only what Redis and Kafka have acknowledged.
    """

    end: int
    committed: Mapping[str, int]

    @property
    def lags(self) -> dict[str, int]:
        """Records that a group has not confirmed, by group."""
        return {group: self.end - done for group, done in self.committed.items()}

    @property
    def lag(self) -> int:
        """Records that the slower group has not confirmed."""
        return max(self.lags.values())


class Backlog:
    """Asks the brokers; belongs to no group."""

    def __init__(self, bootstrap: str) -> None:
        """Ask these brokers."""
        # log_level 0: librdkafka's lines on stderr would tear a live table apart.
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._partitions: list[TopicPartition] = []

    def end(self) -> int:
        """Records written to the stock topic so far.

        Raises:
            Outage: Kafka does not answer.
        """
        with _outages():
            wanted = {part: OffsetSpec.latest() for part in self._parts()}
            found = self._admin.list_offsets(wanted, request_timeout=_TIMEOUT_SECONDS)
            return sum(future.result().offset for future in found.values())

    def position(self) -> Position:
        """How far everybody is. The end is asked for last: a lag of 0 means it.

        Raises:
            Outage: Kafka does not answer.
        """
        committed = {group: self._committed(group) for group in GROUPS}
        return Position(self.end(), committed)

    def until_drained(
        self, end: int, patience: float, look: Callable[[Position], None] = lambda _: None
    ) -> Position:
        """Wait until the topic reaches `end` and both groups have confirmed all of it.

        Args:
            end: as `end()` was, plus the changes committed since.
            patience: seconds in which at least one more record must have been confirmed.
            look: called with every position on the way.

        Raises:
            Outage: Kafka does not answer, or nothing has moved for `patience` seconds.
        """
        moved, furthest = time.monotonic(), -1
        for position in self._positions():
            look(position)
            if position.end >= end and position.lag <= 0:
                return position
            done = position.end + sum(position.committed.values())
            if done > furthest:
                moved, furthest = time.monotonic(), done
            elif time.monotonic() - moved > patience:
                raise Outage(
                    f"Nothing has moved for {patience:.0f} s: the topic holds {position.end} of "
                    f"{end} changes, and not confirmed are {position.lags}; look at make logs."
                )
        raise AssertionError("unreachable: positions have no end")

    def _positions(self) -> Iterator[Position]:
        while True:
            yield self.position()
            time.sleep(_POLL_SECONDS)

    def _committed(self, group: str) -> int:
        with _outages():
            request = ConsumerGroupTopicPartitions(group, self._parts())
            answers = self._admin.list_consumer_group_offsets(
                [request], request_timeout=_TIMEOUT_SECONDS
            )
            parts = answers[group].result().topic_partitions
        # Below zero: this partition has no commit yet.
        return sum(max(part.offset, 0) for part in parts)

    def _parts(self) -> list[TopicPartition]:
        if not self._partitions:
            topic = self._admin.list_topics(STOCK, timeout=_TIMEOUT_SECONDS).topics[STOCK]
            self._partitions = [TopicPartition(STOCK, number) for number in topic.partitions]
        return self._partitions


@contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except KafkaException as exc:
        raise Outage(f"Kafka does not answer ({exc}); see that it runs: make status.") from exc
