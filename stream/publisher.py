"""Publishes messages, each topic by itself: what one channel's topic refuses delays no other."""

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, Protocol, TypeVar

import structlog

from inventory.errors import Outage
from inventory.messages import OutgoingMessage
from stream.lane import Lane, Receipt, Refusal

log = structlog.stdlib.get_logger(__name__)

#: Seconds between two looks at lanes that may be stuck.
_LOOK = 0.5


_T = TypeVar("_T")


class Later(Awaitable[_T]):
    """A coroutine that is made when it is awaited, so that it may also never be."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        """Make the coroutine so."""
        self._make = make

    def __await__(self) -> Generator[Any, None, _T]:
        return self._make().__await__()


class Publisher(Protocol):
    """The port through which agents reach the channels."""

    async def publish(self, messages: Sequence[OutgoingMessage]) -> Awaitable[frozenset[str]]:
        """Hand messages over in order; await the result to know that they are acknowledged.

        The result names the topics that have refused theirs: these messages are lost, and their
        channels must be told the current state once their topic takes messages again.

        Raises (from the returned awaitable):
            Outage: a topic that cannot be made good was refused; nothing may be committed.
        """
        ...

    def refusals(self) -> Mapping[str, Refusal]:
        """The topics that take no messages at the moment, and why."""
        ...

    def reopen(self, topic: str) -> bool:
        """Try a topic again that has refused; False while its pause is not over."""
        ...


class KafkaPublisher:
    """A producer for each topic: a partition's messages arrive once, in the order handed over.

    Args:
        bootstrap: `host:port[,host:port]` of the brokers.
        client_id: how the producers name themselves.
        essential: topics whose loss cannot be made good; a refusal of theirs is an outage.
    """

    def __init__(
        self,
        bootstrap: str,
        client_id: str,
        essential: Iterable[str],
    ) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._essential = frozenset(essential)
        self._lanes: dict[str, Lane] = {}

    async def publish(self, messages: Sequence[OutgoingMessage]) -> Awaitable[frozenset[str]]:
        """See `Publisher.publish`; waits only while a producer's queue is full."""
        by_topic: dict[str, list[OutgoingMessage]] = {}
        for message in messages:
            by_topic.setdefault(message.topic, []).append(message)
        receipts: list[tuple[str, Receipt]] = []
        for topic, some in by_topic.items():
            lane = self._lanes.get(topic)
            if lane is None:
                lane = self._lanes[topic] = Lane(
                    self._bootstrap, self._client_id, topic, patient=topic in self._essential
                )
            receipts.append((topic, await lane.send(some)))
        return Later(lambda: self._settled(receipts))

    async def _settled(self, receipts: Iterable[tuple[str, Receipt]]) -> frozenset[str]:
        refused: set[str] = set()
        for topic, receipt in receipts:
            if not await receipt:
                refused.add(topic)
        if lost := refused & self._essential:
            reasons = "; ".join(f"{topic}: {self.refusals()[topic].reason}" for topic in lost)
            raise Outage(f"Kafka did not take a message. {reasons}")
        return frozenset(refused)

    def refusals(self) -> Mapping[str, Refusal]:
        """See `Publisher.refusals`."""
        return {
            topic: lane.refusal for topic, lane in self._lanes.items() if lane.refusal is not None
        }

    def reopen(self, topic: str) -> bool:
        """See `Publisher.reopen`."""
        lane = self._lanes.get(topic)
        return lane is None or lane.reopen()

    async def watch(self, on_change: Callable[[], Awaitable[None]]) -> None:
        """Look after topics whose messages are not acknowledged, until cancelled.

        Args:
            on_change: is told when a topic begins to refuse, and when one may be tried again.
        """
        known: dict[str, tuple[int, bool]] = {}
        while True:
            await asyncio.sleep(_LOOK)
            await asyncio.gather(*(lane.look() for lane in self._lanes.values()))
            refusals = self.refusals()
            now = {topic: (refusal.attempts, refusal.due) for topic, refusal in refusals.items()}
            for topic, refusal in refusals.items():
                if known.get(topic, (0, False))[0] != refusal.attempts:
                    log.error(
                        "channel behind",
                        topic=topic,
                        reason=refusal.reason,
                        attempts=refusal.attempts,
                        not_published=refusal.dropped,
                    )
            if now != known:
                await on_change()
            known = now

    def close(self) -> None:
        """Stop; what is not acknowledged by now is published again later."""
        ending = [lane.close() for lane in self._lanes.values()]
        for thread in filter(None, ending):
            thread.join()
