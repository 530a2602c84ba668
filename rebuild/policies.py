"""The channels' policies as the workers have them, read from the topic that they follow."""

from collections.abc import Iterable
from typing import NamedTuple

from audit.topics import open_consumer, watermarks
from connectors.policy_envelope import PolicyChange, read_policy_change
from inventory.errors import InvalidEvent
from inventory.policy import ChannelKind, PolicySet, rules_digest
from inventory.topics import CHANNEL
from rebuild.topics import read_upto


class Policies(NamedTuple):
    """The policies, as of the end of the topic.

    Attributes:
        all: prepared for projecting.
        digests: of each availability channel's rules: the mark of one that was told of every SKU.
    """

    all: PolicySet
    digests: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """The same for the same rules of the same channels."""
        return str(sorted(self.digests.items()))


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
    try:
        return [
            value
            for partition, bounds in watermarks(consumer, CHANNEL).items()
            for records, _ in read_upto(consumer, (CHANNEL, partition), *bounds)
            for record in records
            if (value := record.value()) is not None
        ]
    finally:
        consumer.close()
