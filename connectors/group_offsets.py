"""What a consumer group has committed, read and written by a client that never joins it."""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

import stamina
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

#: What a broker says that has just started, of a group that it is about to know or that moves.
_NOT_YET = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
#: The longest pause between two attempts, in seconds.
_LONGEST_PAUSE = 1.0


def _is_not_yet(error: Exception) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _NOT_YET


class GroupOffsets:
    """The committed offsets of one group and their metadata.

    By a consumer, and not by an `AdminClient`: once its request to a group's coordinator has timed
    out while no broker was to be reached, librdkafka never answers the next one, and may abort
    the process (seen with confluent-kafka 2.16.1; `tests/e2e/test_group_offsets.py`).

    Args:
        bootstrap: `host:port[,host:port]` of the brokers.
        group: may have members; only one without any can be written for.
        client_id: how the client names itself.
    """

    def __init__(self, bootstrap: str, group: str, client_id: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "client.id": client_id,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        self._last: Future[None] | None = None

    def read(self, places: Iterable[tuple[str, int]], timeout: float) -> list[TopicPartition]:
        """What was committed for partitions of topics; those without anything are left out.

        Raises:
            KafkaException: there is no answer within `timeout` seconds, or a refusal.
        """
        found = self._consumer.committed([TopicPartition(*place) for place in places], timeout)
        for part in found:
            if part.error is not None:
                raise KafkaException(part.error)
        return [part for part in found if part.offset >= 0]

    def write(self, parts: Sequence[TopicPartition]) -> "Future[None]":
        """Commit these; the future ends when Kafka has taken them or refuses (`KafkaException`).

        That may be after an outage, however long. Writes are carried out in their order.
        """
        written: Future[None] = Future()
        before, self._last = self._last, written
        work = (list(parts), before, written)
        # A daemon: a process that ends does not wait for Kafka.
        threading.Thread(target=self._commit, args=work, daemon=True).start()
        return written

    def _commit(
        self, parts: list[TopicPartition], before: "Future[None] | None", written: "Future[None]"
    ) -> None:
        if before is not None:
            before.exception()
        try:
            taken = self._commit_at_last(parts)
        except Exception as exc:  # noqa: BLE001 - whoever waits is told
            written.set_exception(exc)
            return
        refused = [part.error for part in taken if part.error is not None]
        if refused:
            written.set_exception(KafkaException(refused[0]))
        else:
            written.set_result(None)

    @stamina.retry(on=_is_not_yet, attempts=None, timeout=None, wait_max=_LONGEST_PAUSE)
    def _commit_at_last(self, parts: list[TopicPartition]) -> Sequence[TopicPartition]:
        return self._consumer.commit(offsets=parts, asynchronous=False) or ()

    def close(self) -> None:
        """Leave the brokers; not while something is being written, which may last."""
        if self._last is None or self._last.done():
            self._consumer.close()
