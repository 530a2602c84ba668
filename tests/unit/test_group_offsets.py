"""Offsets of a group are committed at last, unless Kafka says no."""

import pytest
import stamina
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connectors.group_offsets import GroupOffsets

AT = [TopicPartition("t", 0, 7)]


class Coordinator:
    """A consumer whose commits are answered with these errors first."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.commits = 0

    def commit(self, offsets, asynchronous):
        assert not asynchronous
        self.commits += 1
        if self.errors:
            raise KafkaException(KafkaError(self.errors.pop(0)))
        return offsets


@pytest.fixture
def group(monkeypatch):
    def make(coordinator):
        monkeypatch.setattr("connectors.group_offsets.Consumer", lambda _: coordinator)
        return GroupOffsets("nowhere:1", "group", "client")

    with stamina.set_testing(True, attempts=10):
        yield make


def test_a_coordinator_that_has_just_started_is_asked_again(group):
    coordinator = Coordinator(
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
    )
    group(coordinator).write(AT).result(30)
    assert coordinator.commits == 4


def test_a_refusal_is_told_at_once(group):
    coordinator = Coordinator(KafkaError.UNKNOWN_MEMBER_ID)
    with pytest.raises(KafkaException):
        group(coordinator).write(AT).result(30)
    assert coordinator.commits == 1
