"""The little of confluent-kafka's consumer that a subscription uses, and how it is set up."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from stockwire_client.errors import ConfigurationError

log = logging.getLogger("stockwire_client")

#: Called with the consumer and the partitions that come or go.
Rebalanced = Callable[[Any, list[TopicPartition]], None]


class KafkaError(Protocol):
    """As confluent-kafka's."""

    def code(self) -> int: ...
    def fatal(self) -> bool: ...


class KafkaMessage(Protocol):
    """As confluent-kafka's."""

    def error(self) -> KafkaError | None: ...
    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> Any: ...
    def value(self) -> Any: ...
    def headers(self) -> Any: ...
    def timestamp(self) -> tuple[int, int]: ...


class KafkaConsumer(Protocol):
    """As confluent-kafka's, set up as `settings` says."""

    def subscribe(
        self,
        topics: list[str],
        *,
        on_assign: Rebalanced,
        on_revoke: Rebalanced,
        on_lost: Rebalanced,
    ) -> None: ...

    def poll(self, timeout: float) -> KafkaMessage | None: ...
    def store_offsets(self, *, offsets: list[TopicPartition]) -> None: ...
    def committed(
        self, partitions: list[TopicPartition], timeout: float
    ) -> list[TopicPartition]: ...
    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float
    ) -> tuple[int, int]: ...
    def incremental_assign(self, partitions: list[TopicPartition]) -> None: ...
    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> Any: ...
    def close(self) -> None: ...


#: Offsets are stored when their messages are handled, and committed by librdkafka: every second,
#: before a partition is given up, and on close. Where no committed offset can be used any more,
#: what Kafka still has is read from its start.
_OURS: Mapping[str, object] = {
    "enable.auto.offset.store": False,
    "enable.auto.commit": True,
    "auto.commit.interval.ms": 1000,
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,
    "partition.assignment.strategy": "cooperative-sticky",
}

#: What `config` may change. A member that was killed is missed after six seconds (the least that a
#: broker allows by default) instead of 45, in which its partitions stand still.
_DEFAULTS: Mapping[str, object] = {
    "client.id": "stockwire-client",
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 1500,
}


def open_consumer(bootstrap: str, group: str, config: Mapping[str, object]) -> KafkaConsumer:
    """A consumer that is not subscribed yet.

    Args:
        bootstrap: host:port[,host:port].
        group: members of a group share the partitions and the committed offsets.
        config: further settings of librdkafka, such as those of TLS and SASL.

    Raises:
        ConfigurationError: a setting is malformed, or decides what the kit must decide.
    """
    taken = sorted({*_OURS, "group.id", "bootstrap.servers"} & set(config))
    if taken:
        raise ConfigurationError(
            f"config sets {', '.join(taken)}, which the subscription decides: leave it out."
        )
    settings = {
        **_DEFAULTS,
        "error_cb": _log_error,
        **config,
        **_OURS,
        "bootstrap.servers": bootstrap,
        "group.id": group,
    }
    try:
        return Consumer(settings, logger=log)  # type: ignore[no-any-return,unused-ignore]
    except KafkaException as exc:
        raise ConfigurationError(f"confluent-kafka does not accept config: {exc}.") from exc


def _log_error(error: object) -> None:
    # librdkafka goes on trying by itself; who runs the subscription can see why nothing comes.
    log.warning("Kafka: %s", error)
