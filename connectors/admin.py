"""Asking Kafka about groups and topics again and again, from a process that runs for long."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_T = TypeVar("_T")


class Admin:
    """An `AdminClient` that is replaced once a request of its has failed for want of an answer.

    librdkafka's asks no coordinator any more after such a request has timed out while no broker was
    to be reached: every later one times out too (seen with confluent-kafka 2.16.1 and one broker,
    `tests/e2e/test_kafka_admin.py`).

    Args:
        bootstrap: `host:port[,host:port]` of the brokers.
        client_id: how it names itself.
    """

    def __init__(self, bootstrap: str, client_id: str = "stockwire") -> None:
        self._settings = {"bootstrap.servers": bootstrap, "client.id": client_id, "log_level": 0}
        self._client = AdminClient(self._settings)
        self._failed = False
        self._idle: list[AdminClient] = []

    def ask(self, request: Callable[[AdminClient], Iterable["Future[_T]"]]) -> list["Future[_T]"]:
        """Make a request; its futures fail with `KafkaException`, in the time that it says."""
        if self._failed:
            self._failed = False
            self._client = AdminClient(self._settings)
        self._idle.clear()
        futures = list(request(self._client))
        for future in futures:
            # A client lives until all of its futures are done, and ends here: in a thread of its
            # own, where they are done, it would wait for itself.
            future.add_done_callback(partial(self._done, [self._client]))
        return futures

    def _done(self, asked: list[AdminClient], future: "Future[_T]") -> None:
        client = asked.pop()
        if client is self._client and not future.cancelled():
            self._failed = self._failed or _is_for_want_of_an_answer(future.exception())
        self._idle.append(client)


def _is_for_want_of_an_answer(error: BaseException | None) -> bool:
    """Errors of the client's own have negative codes."""
    return isinstance(error, KafkaException) and error.args[0].code() < 0
