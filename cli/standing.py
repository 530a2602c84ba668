"""How far a channel has been told: live, being told, or behind. No I/O."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

import orjson

from inventory import standing as ledger
from inventory.policy import ChannelPolicy, rules_digest
from stream.standing import terms


class State(StrEnum):
    """How a channel stands."""

    LIVE = "live"
    TOLD = "being told"
    """New, or by rules that have changed: some partitions have not been told all of it."""
    BEHIND = "behind"
    """Its topic refuses messages."""
    UNKNOWN = "unknown"
    """Who knows how it stands does not answer."""


class Standing(NamedTuple):
    """How a channel stands.

    Attributes:
        told: partitions of the stock topic of which it knows everything by its present rules.
        partitions: how many there are.
        backlog: of an availability channel the messages that were not published, of another one
            the records of the stock topic that it was not told; None if that is not known.
        since: when it fell behind, in seconds since the epoch.
        reason: why.
    """

    state: State
    told: int
    partitions: int
    backlog: int | None = 0
    since: float | None = None
    reason: str | None = None


class Refused(NamedTuple):
    """A topic that takes no messages from one of the workers, see `projections.marks`."""

    topic: str
    reason: str
    since: float
    not_published: int


def read_refusals(fields: Mapping[bytes, bytes]) -> list[Refused]:
    """The refusals in the hash; what cannot be read is left out, nothing depends on it."""
    found = []
    for name, value in fields.items():
        try:
            said = orjson.loads(value)
            topic = name.decode().split("|", 1)[1]
            reason, since, missed = (
                str(said["reason"]),
                float(said["since"]),
                int(said["not_published"]),
            )
        except (ValueError, KeyError, TypeError, IndexError):
            continue
        found.append(Refused(topic, reason, since, missed))
    return found


def availability_standing(
    policy: ChannelPolicy,
    marks: Mapping[int, Mapping[str, str]],
    partitions: int,
    refusals: Iterable[Refused],
) -> Standing:
    """How an availability channel stands, by the marks beside the projection.

    Args:
        policy: as it is in Postgres.
        marks: of each partition of the stock topic, see `projections.marks`.
        partitions: of the stock topic.
        refusals: of all topics.
    """
    digest = rules_digest(policy)
    told = sum(marks.get(number, {}).get(policy.name) == digest for number in range(partitions))
    if told == partitions:
        return Standing(State.LIVE, told, partitions)
    against = [refused for refused in refusals if refused.topic == policy.topic]
    if not against:
        return Standing(State.TOLD, told, partitions)
    first = min(against, key=lambda refused: refused.since)
    return Standing(
        State.BEHIND,
        told,
        partitions,
        sum(refused.not_published for refused in against),
        first.since,
        first.reason,
    )


def ledger_standing(
    policy: ChannelPolicy,
    kept: Mapping[int, ledger.Standing],
    ends: Mapping[int, int],
) -> Standing:
    """How a channel of kind level or movement stands, by what its workers keep in Kafka.

    Args:
        policy: as it is in Postgres.
        kept: by partition of the stock topic, see `stream.standing`.
        ends: the offset after the last record of each of these partitions.
    """
    wanted = terms(policy)
    missing = {
        number: kept.get(number)
        for number in ends
        if (found := kept.get(number)) is None
        or found.state is not ledger.State.LIVE
        or found.digest != wanted
    }
    told = len(ends) - len(missing)
    if not missing:
        return Standing(State.LIVE, told, len(ends))
    backlog = sum(
        ends[number] - (found.offset if found is not None and _goes_on(found) else 0)
        for number, found in missing.items()
    )
    behind = [found for found in missing.values() if found is not None and _goes_on(found)]
    if not behind:
        return Standing(State.TOLD, told, len(ends), backlog)
    first = min(behind, key=lambda found: found.since)
    return Standing(State.BEHIND, told, len(ends), backlog, first.since, first.reason)


def _goes_on(found: ledger.Standing) -> bool:
    """Whether it is told from its offset on; anything else begins from the start."""
    return found.state is ledger.State.BEHIND
