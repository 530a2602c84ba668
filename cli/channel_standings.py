"""Asks Redis and Kafka how far channels have been told."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import cast

from redis import Redis

from audit.topics import open_consumer, watermarks
from cli.standing import (
    Refused,
    Standing,
    State,
    availability_standing,
    ledger_standing,
    read_refusals,
)
from inventory import standing as ledger
from inventory.errors import AuditError, Outage
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.settings import Settings
from inventory.topics import STOCK
from projections.marks import REFUSALS_KEY, read_marks
from projections.outage import redis_outages
from stream.standing import read_standings


def read_channel_standings(
    settings: Settings, policies: Sequence[ChannelPolicy]
) -> dict[str, Standing]:
    """How each channel stands, by name; a store that does not answer is said in its place."""
    sellers = [policy for policy in policies if policy.kind is ChannelKind.AVAILABILITY]
    others = [policy for policy in policies if policy.kind is not ChannelKind.AVAILABILITY]
    return _by_marks(settings, sellers) | _by_offsets(settings, others)


def _by_marks(settings: Settings, policies: Sequence[ChannelPolicy]) -> dict[str, Standing]:
    try:
        marks = _marks(settings)
        refusals = _refusals(settings)
    except Outage as exc:
        return _unknown(settings, policies, exc)
    return {
        policy.name: availability_standing(policy, marks, settings.partitions, refusals)
        for policy in policies
    }


def _by_offsets(settings: Settings, policies: Sequence[ChannelPolicy]) -> dict[str, Standing]:
    bootstrap = settings.kafka_bootstrap
    try:
        with closing(open_consumer(bootstrap)) as consumer:
            ends = {number: end for number, (_, end) in watermarks(consumer, STOCK).items()}
        return {
            policy.name: ledger_standing(policy, read_standings(settings, policy.name), ends)
            for policy in policies
        }
    except (Outage, AuditError) as exc:
        return _unknown(settings, policies, exc)


def _unknown(
    settings: Settings, policies: Sequence[ChannelPolicy], exc: Exception
) -> dict[str, Standing]:
    away = Standing(State.UNKNOWN, 0, settings.partitions, None, None, str(exc))
    return {policy.name: away for policy in policies}


def _marks(settings: Settings) -> Mapping[int, Mapping[str, str]]:
    with closing(Redis.from_url(str(settings.redis_url))) as client:
        return read_marks(client)


def _refusals(settings: Settings) -> list[Refused]:
    with redis_outages(), closing(Redis.from_url(str(settings.redis_url))) as client:
        return read_refusals(cast("Mapping[bytes, bytes]", client.hgetall(REFUSALS_KEY)))


def is_told_of(settings: Settings, policy: ChannelPolicy) -> bool:
    """Whether a worker has still to tell the subscribers of a channel that it is gone.

    Raises:
        Outage: who knows does not answer.
    """
    if policy.kind is ChannelKind.AVAILABILITY:
        return any(policy.name in told for told in _marks(settings).values())
    kept = read_standings(settings, policy.name)
    return any(found.state is not ledger.State.LEFT for found in kept.values())
