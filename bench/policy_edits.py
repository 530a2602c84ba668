"""Edits a channel's policy, and measures how long it takes until its subscribers know.

The time runs from the transaction's commit, as Debezium reports it. Whether all SKUs are done is
asked of the marks that the workers set (`projections.marks`), and they set them once Kafka has
acknowledged the last message: what is measured here is late by some ms and never early.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import orjson
import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from redis import Redis

from audit.postgres import read_policies
from inventory.errors import NotFound, Outage
from inventory.names import stock_key
from inventory.policy import ChannelKind, ChannelPolicy, PolicySet, rules_digest
from inventory.settings import Settings
from inventory.topics import CHANNEL
from projections.codec import decode_projection
from projections.fields import PUBLISHED
from projections.marks import BEHIND, NOT_WHOLE, read_marks
from projections.outage import redis_outages
from sql.queries import load_queries

_QUERIES = load_queries()
#: One SKU is looked at more often than all of them.
_LOOK_AT_ONE_SECONDS = 0.002
_LOOK_AT_ALL_SECONDS = 0.01
_METADATA_SECONDS = 30


@dataclass(frozen=True, slots=True)
class PolicyEdit:
    """An edit of a channel's buffer that everybody knows of.

    Attributes:
        committed_us: its commit time, in µs since the epoch.
        skus: how many there are; each was computed anew.
        watched_ms: from the commit until Redis had the new number of the SKU that was watched;
            None if none was.
        whole_ms: from the commit until all were in Redis and on the channel's topic.
    """

    channel: str
    before: int
    after: int
    committed_us: int
    skus: int
    watched_ms: float | None
    whole_ms: float


class PolicyEdits:
    """Makes edits, one after the other; `opened` gives one."""

    def __init__(self, settings: Settings, redis: Redis, consumer: Consumer, patience: float):
        """Edit there; an edit must be known after `patience` seconds."""
        self._settings = settings
        self._redis = redis
        self._consumer = consumer
        self._patience = patience

    @classmethod
    @contextmanager
    def opened(cls, settings: Settings, patience: float) -> Iterator[Self]:
        """With its own connections, which are closed at the end.

        Raises:
            Outage: Kafka does not answer.
        """
        with (
            closing(Redis.from_url(str(settings.redis_url))) as redis,
            closing(_consumer(settings.kafka_bootstrap)) as consumer,
        ):
            yield cls(settings, redis, consumer, patience)

    def buffer(self, channel: str) -> int:
        """The channel's present buffer.

        Raises:
            NotFound: there is no such availability channel.
            Outage: Postgres does not answer.
        """
        return _of(read_policies(self._settings.conninfo()), channel).buffer

    def set_buffer(self, channel: str, buffer: int, watch: str | None = None) -> PolicyEdit:
        """Give a channel another buffer, and return when all its subscribers know.

        Args:
            channel: its name.
            buffer: in units of each SKU; not the one that it has.
            watch: a SKU whose new number is waited for by itself.

        Raises:
            NotFound: there is no such availability channel.
            Outage: a server does not answer, or the edit has not arrived in time.
        """
        policies = read_policies(self._settings.conninfo())
        edited = replace(_of(policies, channel), buffer=buffer)
        others = (policy for policy in policies if policy.name != channel)
        fingerprint = PolicySet.of([*others, edited]).fingerprint
        before, version, skus = self._commit(channel, buffer)
        deadline = time.monotonic() + self._patience
        watched_us = None if watch is None else self._wait_for_one(watch, fingerprint, deadline)
        whole_us = self._wait_for_all(
            channel, rules_digest(replace(edited, version=version)), deadline
        )
        committed_us = self._committed_us(version, deadline)
        return PolicyEdit(
            channel,
            before,
            buffer,
            committed_us,
            skus,
            None if watched_us is None else (watched_us - committed_us) / 1000,
            (whole_us - committed_us) / 1000,
        )

    def wait_until_told(self, channel: str) -> float:
        """Return when all subscribers of a channel know its present policy; the seconds it took.

        Raises:
            NotFound: there is no such availability channel.
            Outage: a server does not answer, or it takes longer than `patience`.
        """
        started = time.monotonic()
        policy = _of(read_policies(self._settings.conninfo()), channel)
        self._wait_for_all(channel, rules_digest(policy), started + self._patience)
        return time.monotonic() - started

    def is_behind(self, channel: str) -> bool:
        """Whether the channel has missed something of any partition, or is not told all of it yet.

        Raises:
            Outage: Redis does not answer.
        """
        untold = (NOT_WHOLE, BEHIND)
        marks = read_marks(self._redis).values()
        return any(told.get(channel, NOT_WHOLE) in untold for told in marks)

    def _commit(self, channel: str, buffer: int) -> tuple[int, int, int]:
        """The buffer before, the row's version now, and the number of SKUs."""
        try:
            with psycopg.connect(self._settings.conninfo(), connect_timeout=10) as connection:
                (skus,) = connection.execute(_QUERIES["count_skus"]).fetchone() or (0,)
                connection.commit()
                row = connection.execute(
                    _QUERIES["set_buffer"], {"channel": channel, "buffer": buffer}
                ).fetchone()
        except psycopg.OperationalError as exc:
            reason = " ".join(str(exc).split())
            raise Outage(f"Postgres does not answer ({reason}); look at make status.") from exc
        if row is None:
            raise NotFound(f"Channel {channel!r} was removed a moment ago; see make channels.")
        before, version = row
        return before, version, skus

    def _wait_for_one(self, sku: str, fingerprint: str, deadline: float) -> int:
        """The time, in µs since the epoch, at which a SKU is projected by these policies."""
        while True:
            with redis_outages():
                published = cast("bytes | None", self._redis.hget(stock_key(sku), PUBLISHED))
            now_us = time.time_ns() // 1000
            if published and decode_projection(sku, published).fingerprint == fingerprint:
                return now_us
            self._pause(_LOOK_AT_ONE_SECONDS, deadline, f"{sku} in Redis")

    def _wait_for_all(self, channel: str, digest: str, deadline: float) -> int:
        while True:
            marks = read_marks(self._redis)
            now_us = time.time_ns() // 1000
            told = [marks.get(n, {}).get(channel) for n in range(self._settings.partitions)]
            if all(mark == digest for mark in told):
                return now_us
            self._pause(_LOOK_AT_ALL_SECONDS, deadline, f"all SKUs of {channel}")

    def _pause(self, seconds: float, deadline: float, what: str) -> None:
        if time.monotonic() > deadline:
            raise Outage(
                f"The policy has not reached {what} within {self._patience:.0f} s; "
                "look at make channels and at make logs PART=availability."
            )
        time.sleep(seconds)

    def _committed_us(self, version: int, deadline: float) -> int:
        """The commit time of the policy row with this version."""
        while True:
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is not None:
                raise Outage(f"{CHANNEL} cannot be read ({message.error()}); see: make status.")
            if message is not None and message.value() is not None:
                event: dict[str, Any] = orjson.loads(message.value())
                if event["after"] is not None and event["after"]["version"] == version:
                    committed_us: int = event["source"]["ts_us"]
                    return committed_us
            self._pause(0, deadline, CHANNEL)


def _of(policies: tuple[ChannelPolicy, ...], channel: str) -> ChannelPolicy:
    for policy in policies:
        if policy.name == channel and policy.kind is ChannelKind.AVAILABILITY:
            return policy
    raise NotFound(f"There is no availability channel {channel!r}; see make channels.")


def _consumer(bootstrap: str) -> Consumer:
    """A reader of the policies' topic from its present end; it joins no group."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "stockwire-policy-edits",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    only = TopicPartition(CHANNEL, 0)
    try:
        _, end = consumer.get_watermark_offsets(only, _METADATA_SECONDS)
    except KafkaException as exc:
        consumer.close()
        raise Outage(f"Kafka does not answer ({exc}); see that it runs: make status.") from exc
    consumer.assign([TopicPartition(CHANNEL, 0, end)])
    return consumer
