"""Whether a place says of a SKU what Postgres says. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, Self

import orjson

from audit.report import Fields
from inventory.availability import Availability
from inventory.messages import timestamp
from inventory.policy import AS_OF

#: A difference that came up so short a time ago, in µs, is a change on its way.
IN_FLIGHT_US = 1_000_000


class Agreement(StrEnum):
    """How what a place says compares with Postgres."""

    AGREES = "agrees"
    IN_FLIGHT = "in flight"
    """It differs, and the last change is not a second old."""
    DIFFERS = "differs"
    UNKNOWN = "unknown"
    """The place cannot be read."""


class Mismatch(NamedTuple):
    """One field that is not as Postgres says; None stands for nothing being there."""

    field: str
    expected: object
    found: object


@dataclass(frozen=True, slots=True)
class Says:
    """What a place says of a SKU or a row.

    Attributes:
        fields: None where it says that there is nothing.
        version: of what is said there.
        as_of_us: commit time of the latest change that is in it, in µs since the epoch.
        partition: of the topic; None for Redis, or where the topic has no such message.
        mismatches: what differs from Postgres.
        reason: why the place cannot be read, or what is to be known of what it says.
    """

    agreement: Agreement
    fields: Fields | None = None
    version: int | None = None
    as_of_us: int | None = None
    partition: int | None = None
    offset: int | None = None
    mismatches: tuple[Mismatch, ...] = ()
    reason: str | None = None

    def excused(self, reason: str) -> Self:
        """The same, as it should be for a reason of its own."""
        return replace(self, agreement=Agreement.AGREES, mismatches=(), reason=reason)


class LastMessage(NamedTuple):
    """The last message of a key.

    Attributes:
        value: None for a tombstone.
        committed_us: as its header `ce_time` says, in µs since the epoch; None without one.
    """

    partition: int
    offset: int
    value: bytes | None
    committed_us: int | None = None


def shown_availability(hash_fields: Mapping[str, str], channel: str) -> Fields | None:
    """What a storefront reads of a channel from a SKU's hash; None if it is not listed.

    Raises:
        ValueError: it is not what a worker of ours writes.
    """
    if channel not in hash_fields:
        return None
    available = int(hash_fields[channel])
    backorderable = int(hash_fields.get(f"{channel}:backorderable", 0))
    limit = hash_fields.get(f"{channel}:order_limit")
    return {
        "available": available,
        "status": hash_fields.get(f"{channel}:status"),
        "backorderable": backorderable,
        "order_limit": (available or backorderable) if limit is None else int(limit),
    }


def promised_fields(promised: Availability | None) -> Fields | None:
    """What a channel's message must say of a SKU; None for a tombstone, or no message."""
    if promised is None:
        return None
    at = promised.restock_at
    return {
        "available": promised.available,
        "status": promised.status.value,
        "backorderable": promised.backorderable,
        "order_limit": promised.order_limit,
        "restock_at": None if at is None else timestamp(at * 1000),
    }


def redis_says(
    hash_fields: Mapping[str, str], channel: str, promised: Availability | None, *, fresh: bool
) -> Says:
    """Compare what storefronts read.

    Args:
        hash_fields: the SKU's hash as readers see it.
        channel: the channel that is looked at.
        promised: by Postgres.
        fresh: whether the last change is so new that a difference may be on its way.
    """
    try:
        found = shown_availability(hash_fields, channel)
        version = hash_fields.get(f"{channel}:version")
        as_of = hash_fields.get(AS_OF)
        number = None if found is None or version is None else int(version)
        as_of_us = None if found is None or as_of is None else int(as_of) * 1000
    except ValueError as exc:
        return Says(Agreement.DIFFERS, reason=f"no worker has written this: {exc}")
    expected = promised_fields(promised)
    if expected is not None:
        expected = {name: value for name, value in expected.items() if name != "restock_at"}
    differing = mismatches(expected, found)
    return Says(_judge(differing, fresh=fresh), found, number, as_of_us, mismatches=differing)


def topic_says(message: LastMessage | None, expected: Fields | None, *, fresh: bool) -> Says:
    """Compare the last message of a key.

    The version is not compared: a channel is told again only when what it was told has changed,
    while in Redis all channels of a SKU share the latest version.

    Args:
        message: None where the topic has none of that key.
        expected: None for a tombstone, or no message.
        fresh: whether the last change is so new that a difference may be on its way.
    """
    if message is None:
        differing = mismatches(expected, None)
        return Says(
            _judge(differing, fresh=fresh), mismatches=differing, reason="there is no message"
        )
    fields: Fields | None = None
    if message.value is not None:
        try:
            fields = dict(orjson.loads(message.value))
        except (ValueError, TypeError) as exc:
            return Says(
                Agreement.DIFFERS,
                partition=message.partition,
                offset=message.offset,
                reason=f"no worker has written this: {exc}",
            )
    differing = mismatches(expected, fields)
    version = None if fields is None else fields.get("version")
    return Says(
        _judge(differing, fresh=fresh),
        fields,
        version if isinstance(version, int) else None,
        message.committed_us,
        message.partition,
        message.offset,
        differing,
        "a tombstone" if fields is None else None,
    )


def mismatches(expected: Fields | None, found: Fields | None) -> tuple[Mismatch, ...]:
    """The fields that must be there and are not so; more fields than those do not matter."""
    if expected is None:
        return () if found is None else (Mismatch("listed", False, True),)
    if found is None:
        return (Mismatch("listed", True, False),)
    return tuple(
        Mismatch(name, value, found.get(name))
        for name, value in expected.items()
        if name not in found or found[name] != value
    )


def _judge(differing: tuple[Mismatch, ...], *, fresh: bool) -> Agreement:
    if not differing:
        return Agreement.AGREES
    return Agreement.IN_FLIGHT if fresh else Agreement.DIFFERS
