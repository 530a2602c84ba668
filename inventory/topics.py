"""Kafka topic names and how each topic is kept: one place for both."""

from dataclasses import dataclass, field
from types import MappingProxyType

from inventory.policy import ChannelKind
from stockwire_client.names import channel_topic

TOPIC_PREFIX = "stockwire"
SCHEMA = "inventory"

STOCK = f"{TOPIC_PREFIX}.{SCHEMA}.stock"
CHANNEL = f"{TOPIC_PREFIX}.{SCHEMA}.channel"
CHANNEL_SKU = f"{TOPIC_PREFIX}.{SCHEMA}.channel_sku"
HEARTBEAT = f"{TOPIC_PREFIX}.{SCHEMA}.heartbeat"
DEAD_LETTER = f"{TOPIC_PREFIX}.dlq.v1"
ALERTS = "stock.alerts.v1"
SIGNALS = f"{TOPIC_PREFIX}.signals"
#: What shops want done: `checkout.requested`, keyed by the order's reference.
COMMANDS_CHECKOUT = f"{TOPIC_PREFIX}.commands.checkout"
#: Debezium's own heartbeat: it carries the offset forward while no captured row changes.
DEBEZIUM_HEARTBEAT = f"__debezium-heartbeat.{TOPIC_PREFIX}"

_DAY_MS = 24 * 60 * 60 * 1000


def events_topic(aggregate: str) -> str:
    """The topic of an aggregate's outbox events, `stockwire.events.<aggregate>`."""
    return f"{TOPIC_PREFIX}.events.{aggregate}"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it must be: `partitions` None means as many as the settings say."""

    name: str
    cleanup: str
    partitions: int | None = None
    config: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def settings(self) -> dict[str, str]:
        """The topic's configuration as Kafka takes it."""
        return {"cleanup.policy": self.cleanup, **self.config}


def _compact(name: str, partitions: int | None = None) -> TopicSpec:
    # Small segments and a low dirty ratio: a new reader meets little history.
    config = {"segment.ms": str(_DAY_MS), "min.cleanable.dirty.ratio": "0.2"}
    return TopicSpec(name, "compact", partitions, MappingProxyType(config))


def _delete(name: str, days: int, partitions: int | None = None) -> TopicSpec:
    config = {"retention.ms": str(days * _DAY_MS)}
    return TopicSpec(name, "delete", partitions, MappingProxyType(config))


#: Topics that Debezium writes.
CAPTURE_TOPICS = (
    _compact(STOCK),
    _compact(CHANNEL, partitions=1),
    _compact(CHANNEL_SKU),
    _compact(HEARTBEAT, partitions=1),
    _compact(DEBEZIUM_HEARTBEAT, partitions=1),
    _delete(SIGNALS, days=7, partitions=1),
    # One order's events stay in order by key; the default aggregate of the demo.
    _delete(events_topic("order"), days=7),
    # What the write side tells: of each reservation, of each SKU's receipts and transfers, and how
    # each checkout ended.
    _delete(events_topic("reservation"), days=7),
    _delete(events_topic("stock"), days=7),
    _delete(events_topic("checkout"), days=7),
)


def channel_topic_spec(topic: str, kind: ChannelKind) -> TopicSpec:
    """How a channel's topic is kept: states compacted, movements for a week."""
    return _delete(topic, days=7) if kind is ChannelKind.MOVEMENT else _compact(topic)


#: The four default channels.
CHANNEL_TOPICS = (
    channel_topic_spec(channel_topic("web"), ChannelKind.AVAILABILITY),
    channel_topic_spec(channel_topic("app"), ChannelKind.AVAILABILITY),
    channel_topic_spec(channel_topic("wms"), ChannelKind.LEVEL),
    channel_topic_spec(channel_topic("erp"), ChannelKind.MOVEMENT),
)

#: Thresholds that availability has crossed, on every channel.
ALERT_TOPIC = _delete(ALERTS, days=7)

#: A dead letter carries an original as large as Kafka takes one, and headers on top.
DEAD_LETTER_TOPIC = TopicSpec(
    DEAD_LETTER,
    "delete",
    None,
    MappingProxyType({"retention.ms": str(14 * _DAY_MS), "max.message.bytes": str(2 * 2**20)}),
)

#: Commands are done within minutes; a week of them is there to look into.
COMMAND_TOPICS = (_delete(COMMANDS_CHECKOUT, days=7),)

ALL_TOPICS = (*CAPTURE_TOPICS, *CHANNEL_TOPICS, *COMMAND_TOPICS, ALERT_TOPIC, DEAD_LETTER_TOPIC)
