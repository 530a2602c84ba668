"""Where each channel of kind level and movement stands in the stock topic, kept in Kafka.

A channel has a consumer group of its own, without members: for each partition of the stock topic
its committed offset and metadata say whether the channel is live, or which record it was not told.
`kafka-consumer-groups --describe --group stockwire-ledger.<channel>` shows its backlog.
"""

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from contextlib import closing
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, TypeVar

from confluent_kafka import (
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from connectors.group_offsets import GroupOffsets
from inventory.errors import Outage
from inventory.groups import LEDGER, channel_group, group_id
from inventory.policy import ChannelPolicy
from inventory.settings import Settings
from inventory.standing import Standing
from inventory.topics import STOCK

_TIMEOUT = 5.0


class Topic(NamedTuple):
    """A channel's topic as Kafka has it; `used` if anything was ever written to it."""

    id: str
    used: bool


def terms(policy: ChannelPolicy) -> str:
    """A digest that changes when a channel must be told everything anew."""
    warehouses = None if policy.warehouses is None else sorted(policy.warehouses)
    said = repr((policy.kind.value, policy.topic, warehouses))
    return blake2b(said.encode(), digest_size=8).hexdigest()


class Standings(Protocol):
    """Where standings are kept. Every method raises `Outage` when that does not answer."""

    async def positions(self) -> dict[int, int]:
        """How far the workers have committed, by partition."""
        ...

    async def read(self) -> dict[str, dict[int, Standing]]:
        """All standings, by channel and partition."""
        ...

    async def write(self, channel: str, standings: Mapping[int, Standing]) -> None:
        """Set a channel's standings in these partitions."""
        ...

    async def forget(self, channel: str) -> None:
        """Drop all that is kept of a channel."""
        ...

    async def end(self, partition: int) -> int:
        """The offset after the last record of a partition of the stock topic."""
        ...

    async def topic(self, name: str) -> Topic | None:
        """A channel's topic; None if there is none by this name."""
        ...


_NOT_TO_BE_HAD = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED)

_T = TypeVar("_T")


class KafkaStandings:
    """Standings as committed offsets and their metadata.

    Args:
        bootstrap: `host:port[,host:port]` of the brokers.
        client_id: how its clients name themselves.
        partitions: of the stock topic.
    """

    def __init__(self, bootstrap: str, client_id: str, partitions: int) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._places = _places(partitions)
        self._admin = self._open()
        self._groups: dict[str, GroupOffsets] = {}

    def close(self) -> None:
        """Leave the brokers."""
        for group in self._groups.values():
            group.close()

    async def positions(self) -> dict[int, int]:
        """See `Standings.positions`."""
        return {part.partition: part.offset for part in await self._committed(group_id(LEDGER))}

    async def read(self) -> dict[str, dict[int, Standing]]:
        """See `Standings.read`."""
        listed = await _answered(self._admin.list_consumer_groups(request_timeout=_TIMEOUT))
        if listed.errors:
            raise Outage(f"Kafka does not say how all channels stand: {listed.errors[0]}")
        prefix = channel_group("")
        groups = [g.group_id for g in listed.valid if g.group_id.startswith(prefix)]
        parts = await asyncio.gather(*map(self._committed, groups))
        return {
            group.removeprefix(prefix): _standings(found)
            for group, found in zip(groups, parts, strict=True)
        }

    async def write(self, channel: str, standings: Mapping[int, Standing]) -> None:
        """See `Standings.write`."""
        parts = [
            TopicPartition(STOCK, partition, standing.offset, metadata=standing.metadata())
            for partition, standing in standings.items()
        ]
        written = asyncio.wrap_future(self._group(channel_group(channel)).write(parts))
        try:
            # It goes on when it is given up here, and the next one comes after it.
            await asyncio.wait_for(asyncio.shield(written), _TIMEOUT)
        except KafkaException as exc:
            raise Outage(
                f"Kafka did not keep the standing of {channel}: {exc.args[0].str()}"
            ) from exc
        except TimeoutError as exc:
            raise Outage(f"Kafka has not kept the standing of {channel} yet") from exc

    async def forget(self, channel: str) -> None:
        """See `Standings.forget`."""
        group = channel_group(channel)
        (future,) = self._admin.delete_consumer_groups([group], request_timeout=_TIMEOUT).values()
        await _answered(future, but=(KafkaError.GROUP_ID_NOT_FOUND,))
        if (offsets := self._groups.pop(group, None)) is not None:
            offsets.close()

    async def end(self, partition: int) -> int:
        """See `Standings.end`."""
        (end,) = await self._ends([TopicPartition(STOCK, partition)])
        return end

    async def topic(self, name: str) -> Topic | None:
        """See `Standings.topic`."""
        names = TopicCollection([name])
        (future,) = self._admin.describe_topics(names, request_timeout=_TIMEOUT).values()
        found = await _answered(future, but=_NOT_TO_BE_HAD)
        if found is None:
            return None
        try:
            ends = await self._ends([TopicPartition(name, p.id) for p in found.partitions])
        except Outage:
            # One topic's trouble must not hold up the others: to be found out by publishing.
            ends = [1]
        return Topic(str(found.topic_id), any(ends))

    async def _ends(self, parts: list[TopicPartition]) -> list[int]:
        latest = {part: OffsetSpec.latest() for part in parts}
        futures = self._admin.list_offsets(latest, request_timeout=_TIMEOUT)
        try:
            return [(await _answered(future)).offset for future in futures.values()]
        except Outage:
            # It would go on asking with the leader epochs that it knows: a broker that came back
            # with later ones refuses them for ever (seen with confluent-kafka 2.16.1).
            self._admin = self._open()
            raise

    def _open(self) -> AdminClient:
        return AdminClient(
            {"bootstrap.servers": self._bootstrap, "client.id": self._client_id, "log_level": 0}
        )

    async def _committed(self, group: str) -> list[TopicPartition]:
        offsets = self._group(group)
        try:
            return await asyncio.to_thread(offsets.read, self._places, _TIMEOUT)
        except KafkaException as exc:
            raise Outage(f"Kafka does not say how far {group} is: {exc.args[0].str()}") from exc

    def _group(self, group: str) -> GroupOffsets:
        if group not in self._groups:
            self._groups[group] = GroupOffsets(self._bootstrap, group, self._client_id)
        return self._groups[group]


def read_standings(settings: Settings, channel: str) -> dict[int, Standing]:
    """How a channel of kind level or movement stands, by partition of the stock topic.

    A partition that is missing has not been told anything yet, or the channel is gone.

    Raises:
        Outage: Kafka does not answer.
    """
    bootstrap, places = settings.kafka_bootstrap, _places(settings.partitions)
    with closing(GroupOffsets(bootstrap, channel_group(channel), "stockwire")) as offsets:
        try:
            return _standings(offsets.read(places, _TIMEOUT))
        except KafkaException as exc:
            raise Outage(
                f"Kafka at {bootstrap} does not say how {channel} stands: {exc.args[0].str()}"
            ) from exc


def _places(partitions: int) -> list[tuple[str, int]]:
    return [(STOCK, number) for number in range(partitions)]


async def _answered(future: "Future[_T]", but: Collection[int] = ()) -> _T | Any:
    """What Kafka answers; None for the errors that are to be expected."""
    try:
        return await asyncio.wrap_future(future)
    except KafkaException as exc:
        if exc.args[0].code() in but:
            return None
        raise Outage(f"Kafka does not answer: {exc.args[0].str()}") from exc


def _standings(parts: list[TopicPartition]) -> dict[int, Standing]:
    # What is not of our making is left out: told everything anew.
    read = ((part.partition, Standing.read(part.offset, part.metadata)) for part in parts)
    return {partition: standing for partition, standing in read if standing is not None}
