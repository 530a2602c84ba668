"""Offsets of groups are read and written again after an outage of the broker, in order."""

import asyncio
from contextlib import closing

import pytest
from confluent_kafka import KafkaException, TopicPartition

from connectors.group_offsets import GroupOffsets
from inventory.errors import Outage
from inventory.topics import STOCK
from stream.standing import KafkaStandings
from tests.polling import eventually

pytestmark = pytest.mark.e2e

_SECONDS = 3.0
_PLACES = [(STOCK, 0), (STOCK, 1)]


@pytest.fixture
def offsets(stack, settings):
    group = GroupOffsets(settings.kafka_bootstrap, "stockwire-test-offsets", "stockwire-test")
    yield group
    group.close()


def at(offset, metadata):
    return [TopicPartition(STOCK, 0, offset, metadata=metadata)]


def test_an_outage_of_the_broker_is_got_over(stack, offsets):
    def read():
        try:
            return [(p.offset, p.metadata) for p in offsets.read(_PLACES, _SECONDS)]
        except KafkaException as exc:
            raise AssertionError(str(exc)) from exc

    offsets.write(at(7, "before")).result(60)
    assert eventually(read) == [(7, "before")]
    stack.stop_part("kafka")
    try:
        # The first may fail for the connection that has ended, the second for want of an answer.
        for _ in range(2):
            with pytest.raises(KafkaException):
                offsets.read(_PLACES, _SECONDS)
        meanwhile, after = offsets.write(at(8, "meanwhile")), offsets.write(at(9, "after"))
        assert not meanwhile.done()
    finally:
        stack.start_part("kafka")
    meanwhile.result(60)
    after.result(60)
    assert eventually(read) == [(9, "after")]


def test_the_end_of_the_topic_is_known_again_after_restarts_of_the_broker(stack, settings):
    """Each makes the partitions' leader epochs later, which a client may never hear of."""
    standings = KafkaStandings(settings.kafka_bootstrap, "stockwire-test", settings.partitions)
    with closing(standings), asyncio.Runner() as runner:

        def ends():
            try:
                return [runner.run(standings.end(n)) for n in range(settings.partitions)]
            except Outage as exc:
                raise AssertionError(str(exc)) from exc

        before = eventually(ends)
        for _ in range(2):
            stack.restart("kafka")
        after = eventually(ends, timeout=30)
    assert all(now >= then for now, then in zip(after, before, strict=True))
