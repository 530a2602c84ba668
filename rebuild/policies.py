"""The channels' policies as the workers have them, read from the topic that they follow."""

import time
from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import TopicPartition

from audit.topics import kafka_outages, open_consumer, watermarks
from connectors.policy_envelope import PolicyChange, read_policy_change
from inventory.errors import InvalidEvent, Outage
from inventory.policy import ChannelKind, PolicySet, rules_digest
from inventory.topics import CHANNEL
from rebuild.topics import next_offset

_TIMEOUT = 15.0


class Policies(NamedTuple):
    """The policies, as of the end of the topic.

    Attributes:
        all: prepared for projecting.
        digests: of each availability channel's rules: the mark of one that was told of every SKU.
    """

    all: PolicySet
    digests: dict[str, str]


def read_policies(bootstrap: str, marked: Iterable[str] = ()) -> Policies:
    """Read the whole channel topic.

    Args:
        bootstrap: the brokers.
        marked: channels with marks: one that is gone is still to be told so.

    Raises:
        Outage: Kafka does not answer.
        AuditError: there is no such topic.
    """
    latest: dict[str, PolicyChange] = {}
    for value in _values(bootstrap):
        try:
            change = read_policy_change(value)
        except InvalidEvent:
            continue  # as the workers do: the policy before it stays
        known = latest.get(change.policy.name)
        if known is None or change.version >= known.version:
            latest[change.policy.name] = change
    there = [change.policy for change in latest.values() if not change.gone]
    used = {policy.topic for policy in there}
    departed = {
        name: change.policy.topic
        for name, change in sorted(latest.items())
        if change.gone
        and change.policy.kind is ChannelKind.AVAILABILITY
        and change.policy.topic not in used
        and name in {*marked}
    }
    policies = PolicySet.of(there, departed)
    return Policies(policies, {p.name: rules_digest(p) for p in policies.policies})


def _values(bootstrap: str) -> list[bytes]:
    consumer = open_consumer(bootstrap)
    values: list[bytes] = []
    try:
        for partition, (low, end) in watermarks(consumer, CHANNEL).items():
            with kafka_outages():
                consumer.assign([TopicPartition(CHANNEL, partition, low)])
            position, heard = low, time.monotonic()
            while position < end:
                with kafka_outages():
                    messages = consumer.consume(1_000, timeout=0.2)
                for message in messages:
                    position = max(position, next_offset(message))
                    if message.error() is None and (value := message.value()) is not None:
                        values.append(value)
                if messages:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _TIMEOUT:
                    raise Outage(f"Kafka sent nothing of {CHANNEL} for {_TIMEOUT:.0f} s.")
    finally:
        consumer.close()
    return values
