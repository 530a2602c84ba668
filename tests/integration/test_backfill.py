"""A back-fill is watched from the moment it is asked for."""

from contextlib import closing
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from audit.topics import open_consumer
from cli.backfill import Backfill
from inventory.errors import AuditError
from inventory.messages import IN_SNAPSHOT, snapshot_end

pytestmark = pytest.mark.integration

PARTITIONS = 2


@pytest.fixture
def topic(stack, settings):
    name = f"backfill.{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)], operation_timeout=30)[name].result()
    yield name
    admin.delete_topics([name], operation_timeout=30)[name].result()


@pytest.fixture
def fill(settings, topic):
    """Write a whole back-fill: one message, and the end of the only part in each partition."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})

    def write():
        producer.produce(topic, b"{}", b"SKU", 0, headers=list(IN_SNAPSHOT))
        for number in range(PARTITIONS):
            end = snapshot_end(topic, number, 0, 1)
            producer.produce(topic, None, end.key, number, headers=end.headers)
        assert producer.flush(30) == 0

    return write


def test_the_ends_of_an_earlier_life_do_not_count(settings, topic, fill):
    with closing(open_consumer(settings.kafka_bootstrap)) as consumer:
        # A new topic may not answer yet; this waits for it.
        Backfill(consumer, topic)
        fill()
        backfill = Backfill(consumer, topic)
        looks = []
        assert not backfill.wait(1, looks.append), "nothing new has come"
        assert looks
        fill()
        assert backfill.wait(30, looks.append)
        assert backfill.seen.messages == 1


def test_there_is_no_topic(stack, settings):
    with (
        closing(open_consumer(settings.kafka_bootstrap)) as consumer,
        pytest.raises(AuditError, match="no topic"),
    ):
        Backfill(consumer, "backfill.none")
