"""Alerts leave once for each crossing, also when its projection is replayed after a crash.

A replay finds the projection written, or has to write the next one over it, and cannot know whether
its alert was published. Redis says so for those that were acknowledged; the few that it does not
know of are looked up in the topic.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import closing
from typing import Protocol

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from inventory.errors import Outage
from inventory.messages import OutgoingMessage, alert_messages
from inventory.projection import SkuProjection
from inventory.topics import ALERTS
from projections.ports import Written

#: Alerts that this process has handed over, remembered at most.
_REMEMBERED = 100_000

#: Clocks of Postgres and of the workers may differ by so much, in ms.
_CLOCK_SKEW_MS = 60_000

_TIMEOUT = 10.0

_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's name


class AlertLog(Protocol):
    """Where alerts are looked up."""

    async def published(self, ids: Set[str], since_us: int) -> set[str]:
        """Those of these alerts that are there, from a time on, in µs since the epoch.

        Raises:
            Outage: it cannot be read.
        """
        ...


class Alerts:
    """The alerts of one worker."""

    def __init__(self, published: AlertLog) -> None:
        """Look up there what may have been published before."""
        self._log = published
        self._handed_over: dict[str, None] = {}

    async def of(self, written: Written) -> list[OutgoingMessage]:
        """The alerts of these projections that were not published yet.

        Raises:
            Outage: whether one was published cannot be found out.
        """
        replayed = [p for p in written.projections if p.sku in written.unalerted]
        doubtful = {
            _id(message): message
            for projection in (*written.overtaken, *replayed)
            for message in alert_messages(projection)
        }
        unknown = doubtful.keys() - self._handed_over.keys()
        alerts: list[OutgoingMessage] = []
        if unknown:
            times = [p.committed_us for p in (*written.overtaken, *replayed)]
            known = await self._log.published(unknown, min(times))
            alerts += [m for alert, m in doubtful.items() if alert in unknown - known]
        for projection in written.projections:
            if projection.crosses and projection.sku not in written.replayed:
                alerts += alert_messages(projection)
        self._remember(map(_id, alerts))
        return alerts

    def _remember(self, ids: Iterable[str]) -> None:
        self._handed_over.update(dict.fromkeys(ids))
        while len(self._handed_over) > _REMEMBERED:
            del self._handed_over[next(iter(self._handed_over))]


def alerted(projections: Sequence[SkuProjection]) -> Mapping[str, int]:
    """By SKU, the version of each projection that raises an alert."""
    return {p.sku: p.version for p in projections if p.crosses}


def _id(message: OutgoingMessage) -> str:
    return dict(message.headers)["ce_id"].decode()


class KafkaAlertLog:
    """The topic of alerts, read from a time to its end."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        """Read from these brokers."""
        self._config = {
            "bootstrap.servers": bootstrap,
            "client.id": client_id,
            "group.id": client_id,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }

    async def published(self, ids: Set[str], since_us: int) -> set[str]:
        """See `AlertLog.published`."""
        return await asyncio.to_thread(self._published, ids, since_us)

    def _published(self, ids: Set[str], since_us: int) -> set[str]:
        since_ms = since_us // 1000 - _CLOCK_SKEW_MS
        try:
            with closing(Consumer(self._config)) as consumer:
                return _search(consumer, ids, since_ms)
        except KafkaException as exc:
            raise Outage(f"{ALERTS} cannot be read: {exc.args[0].str()}") from exc


def _search(consumer: Consumer, ids: Set[str], since_ms: int) -> set[str]:
    partitions = consumer.list_topics(ALERTS, _TIMEOUT).topics[ALERTS].partitions
    starts = consumer.offsets_for_times(
        [TopicPartition(ALERTS, number, since_ms) for number in partitions], _TIMEOUT
    )
    reading = {tp.partition for tp in starts if tp.offset != OFFSET_END}
    consumer.assign([tp for tp in starts if tp.partition in reading])
    found: set[str] = set()
    while reading:
        message = consumer.poll(_TIMEOUT)
        if message is None:
            raise Outage(f"{ALERTS} cannot be read: nothing came for {_TIMEOUT:.0f} s")
        if message.error() is not None:
            if not message.error().retriable() and message.error().code() != _EOF:
                raise KafkaException(message.error())
            if message.error().code() == _EOF:
                reading.discard(message.partition())
            continue
        alert = dict(message.headers() or ()).get("ce_id", b"").decode(errors="replace")
        if alert in ids:
            found.add(alert)
    return found
