"""A topic followed from the moment the tail was made."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, TopicPartition

from tests.polling import DEADLINE


class Told(NamedTuple):
    """One message."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def json(self) -> Any:
        return None if self.value is None else orjson.loads(self.value)


class Tail:
    """Collects every message of a topic that arrives after this was made."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "never-committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
            }
        )
        partitions = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends = [
            TopicPartition(
                topic, p, self._consumer.get_watermark_offsets(TopicPartition(topic, p))[1]
            )
            for p in partitions
        ]
        self._consumer.assign(ends)
        self.seen: list[Told] = []

    def until(self, found: Callable[[Told], object], timeout: float = DEADLINE) -> Told:
        """The first message, seen already or still to come, for which `found` is true."""
        for told in self.seen:
            if found(told):
                return told
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            message = self._consumer.poll(0.1)
            if message is None:
                continue
            assert message.error() is None, message.error()
            told = Told(message.key(), message.value(), dict(message.headers() or ()))
            self.seen.append(told)
            if found(told):
                return told
        raise AssertionError(f"no such message within {timeout} s; seen: {self.seen[-5:]}")

    def drain(self) -> bool:
        """Take what has arrived by now; always true."""
        while (message := self._consumer.poll(0.1)) is not None:
            assert message.error() is None, message.error()
            headers = dict(message.headers() or ())
            self.seen.append(Told(message.key(), message.value(), headers))
        return True

    def of(self, sku: str) -> list[Any]:
        """What was seen so far of a SKU, decoded; a tombstone is None."""
        keys = (sku.encode(),)
        return [
            told.json
            for told in self.seen
            if told.key in keys or (told.key or b"").startswith(sku.encode() + b"|")
        ]

    def close(self) -> None:
        self._consumer.close()
