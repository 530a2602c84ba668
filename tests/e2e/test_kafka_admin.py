"""Asking about groups goes on after an outage of the broker."""

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException

from connectors.admin import Admin
from inventory.groups import AVAILABILITY, group_id
from tests.polling import eventually

pytestmark = pytest.mark.e2e

_GROUP = [ConsumerGroupTopicPartitions(group_id(AVAILABILITY))]
_SECONDS = 3.0


def test_a_group_is_answered_for_again_after_an_outage(stack, settings):
    admin = Admin(settings.kafka_bootstrap)

    def committed():
        (asked,) = admin.ask(
            lambda a: a.list_consumer_group_offsets(_GROUP, request_timeout=_SECONDS).values()
        )
        return asked.result(10 * _SECONDS).topic_partitions

    def answered():
        try:
            return committed()
        except KafkaException as exc:
            raise AssertionError(str(exc)) from exc

    eventually(answered)
    stack.stop_part("kafka")
    try:
        # The first may fail for the connection that has ended, the second for want of an answer.
        for _ in range(2):
            with pytest.raises(KafkaException):
                committed()
    finally:
        stack.start_part("kafka")
    eventually(answered)
