"""`python -m tests.record`: record Debezium's events of policies anew, into `tests/data/envelopes`.

Stops the test stack and drops its data, before and after: the events are those of a fresh one.
"""

import json
import os
from collections.abc import Callable

import psycopg
from confluent_kafka import Consumer, Message, TopicPartition

from cli.bringup import prepare
from compose.embedded import Stack
from inventory.settings import Settings
from inventory.topics import CHANNEL, CHANNEL_SKU
from sql.migrate import migrate
from tests.conftest import TEST_ENVIRONMENT
from tests.polling import eventually
from tests.recorded import ENVELOPES

BEFORE_CAPTURE = """
    UPDATE inventory.channel
    SET warehouses = '{WH-1,WH-2}', buffer = 2, share = 0.75, priority = 50, max_per_order = 10,
        backorder_limit = 20, low_stock_hysteresis = 3
    WHERE name = 'app';
    INSERT INTO inventory.channel_sku (channel, sku, share) VALUES ('web', 'SKU-1', 0.5)"""

#: One event each, in this order.
CHANGES = (
    "UPDATE inventory.channel SET buffer = 3 WHERE name = 'web'",
    "INSERT INTO inventory.channel (name, kind, topic, warehouses, echo_of) "
    "VALUES ('depot', 'level', 'stock.depot.v1', '{WH-2}', 'depot')",
    "DELETE FROM inventory.channel WHERE name = 'erp'",
    "UPDATE inventory.channel_sku SET blocked = true",
    "DELETE FROM inventory.channel_sku",
    "INSERT INTO inventory.channel_sku (channel, sku, ring_fence, max_per_order, backorder_limit, "
    "low_stock_hysteresis) VALUES ('web', 'SKU-1', 5, 4, 8, 1)",
)

#: The samples by topic, in the order of the records; None is not kept.
NAMES = {
    CHANNEL: (
        "channel_snapshot_first",
        "channel_snapshot",
        None,
        "channel_snapshot_last",
        "channel_update",
        "channel_insert",
        "channel_delete",
    ),
    CHANNEL_SKU: (
        "channel_sku_snapshot_only_row",
        "channel_sku_update",
        "channel_sku_delete",
        "channel_sku_insert",
    ),
}


def record(settings: Settings) -> None:
    """Write the samples, from a stack whose servers run and hold nothing."""
    migrate(settings.conninfo(settings.postgres_admin_user))
    with psycopg.connect(settings.conninfo(), autocommit=True) as connection:
        connection.execute(BEFORE_CAPTURE)
        prepare(settings, print)
        consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": "record"})
        try:
            found = _reader(consumer)
            # Changes made while the snapshot is taken would be part of it.
            eventually(lambda: len(found(CHANNEL)) == 4 and len(found(CHANNEL_SKU)) == 1)
            for change in CHANGES:
                connection.execute(change)
            eventually(lambda: all(len(found(topic)) == len(NAMES[topic]) for topic in NAMES))
            for topic, names in NAMES.items():
                for name, message in zip(names, found(topic), strict=True):
                    if name is not None:
                        _write(name, message)
        finally:
            consumer.close()


def _reader(consumer: Consumer) -> Callable[[str], list[Message]]:
    """What gives all records so far of a topic; its samples share one partition."""
    consumer.assign(
        [
            TopicPartition(topic, partition, 0)
            for topic in NAMES
            for partition in consumer.list_topics(topic, 10).topics[topic].partitions
        ]
    )
    seen: list[Message] = []

    def found(topic: str) -> list[Message]:
        for message in consumer.consume(100, timeout=0.1):
            assert message.error() is None, message.error()
            seen.append(message)
        return [message for message in seen if message.topic() == topic]

    return found


def _write(name: str, message: Message) -> None:
    sample = {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "key": message.key().decode(),
        "value": message.value().decode(),
        "headers": [[key, value.decode()] for key, value in message.headers() or []],
    }
    text = json.dumps(sample, indent=2, ensure_ascii=False)
    (ENVELOPES / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    os.environ.update(TEST_ENVIRONMENT)
    test_settings = Settings()
    stack = Stack(test_settings)
    stack.reset()
    try:
        stack.install()
        stack.start_servers(print)
        record(test_settings)
    finally:
        stack.reset()
