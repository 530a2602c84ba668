"""Which ledger channels the live path tells of what, and which ones must catch up first.

A channel stands in each partition of the stock topic by itself. What is kept of it (`standing`) is
never ahead of what its topic has acknowledged, and is written before the live path commits past a
record that the channel was not told: after a crash or a rebalance the next worker goes on there.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from inventory.messages import OutgoingMessage
from inventory.policy import ChannelKind
from inventory.standing import Standing, State
from stream.inbox import Inbox, Record
from stream.place import COMPACTED, Missed, Passage, Place, divide, joining, kept_place
from stream.policy import PolicyTable
from stream.publisher import Publisher
from stream.retry import until_it_works
from stream.standing import Standings, terms

log = structlog.stdlib.get_logger(__name__)

KINDS = (ChannelKind.LEVEL, ChannelKind.MOVEMENT)


class Roll:
    """What a ledger worker knows of its channels.

    Args:
        inbox: of the worker; its epoch tells when partitions were revoked.
        assigned: the partitions of the stock topic that the worker holds now.

    Attributes:
        positions: the next offset of the live path, by partition.
        outstanding: batches and steps whose messages wait for acknowledgement, by topic.
    """

    def __init__(
        self,
        table: PolicyTable,
        publisher: Publisher,
        standings: Standings,
        inbox: Inbox,
        assigned: Callable[[], Collection[int]],
    ) -> None:
        self._table = table
        self._publisher = publisher
        self._standings = standings
        self._inbox = inbox
        self._assigned = assigned
        self._writing = asyncio.Lock()
        self._places: dict[int, dict[str, Place]] = {}
        self._epoch = inbox.epoch
        self._matched = -1
        self.positions: dict[int, int] = {}
        self.outstanding: Counter[str] = Counter()

    def fresh(self) -> bool:
        """Whether it knows every partition that is held, by the policies as they are."""
        held = self._assigned()
        return (
            self._epoch == self._inbox.epoch
            and self._matched == self._table.revision
            and self._places.keys() == set(held)
        )

    async def renew(self) -> None:
        """Forget partitions that are not held any more, and look up those that are new."""
        held = set(self._assigned())
        for partition in self._places.keys() - held:
            del self._places[partition]
        await self.look_up(held)

    async def look_up(self, partitions: Iterable[int]) -> None:
        """Know these partitions, and everybody by the policies as they are now."""
        async with self._writing:
            if self._epoch != self._inbox.epoch:
                self._epoch = self._inbox.epoch
                self._places.clear()
            missing = set(partitions) - self._places.keys()
            if not missing and self._matched == self._table.revision:
                return
            self._matched = self._table.revision
            begun = await self._load(missing) if missing else []
            changed = [place for number in self._places for place in self._match(number)]
            # Before anybody is told: whoever goes again half told is to hear of that, too.
            await self._write([*begun, *changed])

    async def _load(self, partitions: Iterable[int]) -> list[Place]:
        """Know these partitions as they are kept; and who is told all of one, live."""
        begun: list[Place] = []
        committed = await until_it_works(self._standings.positions)
        kept = await until_it_works(self._standings.read)
        for number in partitions:
            end = await until_it_works(partial(self._standings.end, number))
            self.positions[number] = min(committed.get(number, 0), end)
            places = self._places[number] = {
                name: kept_place(name, number, found[number])
                for name, found in kept.items()
                # Beyond the end: of a stock topic that there was before.
                if number in found and found[number].offset <= end
            }
            if number not in committed:
                # Everything comes live, from the beginning on.
                for policy in self._table.of_kind(*KINDS):
                    if policy.name not in places:
                        here = Place(policy.name, number, policy, joining(policy), live=True)
                        places[policy.name] = here
                        begun.append(here)
        return begun

    def _match(self, number: int) -> list[Place]:
        """Have the places of a partition agree with the policies; those whose standing changed."""
        places = self._places[number]
        changed: list[Place] = []
        policies = {policy.name: policy for policy in self._table.of_kind(*KINDS)}
        departed = {policy.name: policy for policy in self._table.departed(ChannelKind.LEVEL)}
        for name, policy in policies.items():
            known = places.get(name)
            if (
                known is not None
                and known.standing.digest == terms(policy)
                and known.standing.state not in (State.LEAVING, State.LEFT)
            ):
                known.policy = policy
            else:
                places[name] = Place(name, number, policy, joining(policy))
                changed.append(places[name])
        for name in places.keys() - policies.keys():
            known, gone = places[name], departed.get(name)
            state = known.standing.state
            if state is State.LEFT or (state is State.LEAVING and known.policy is gone):
                continue
            leaving = known.standing._replace(state=State.LEAVING, offset=0, since=time.time())
            places[name] = Place(name, number, gone, leaving)
            if state is not State.LEAVING:
                changed.append(places[name])
        return changed

    def place(self, name: str, partition: int) -> Place | None:
        """A channel's place, as it is known now."""
        return self._places.get(partition, {}).get(name)

    def waiting(self) -> list[Place]:
        """For whom there is something to be done beside the live path."""
        return [p for places in self._places.values() for p in places.values() if p.waiting]

    def passages(self, records: Iterable[Record]) -> tuple[list[Passage], Missed]:
        """Divide records by who is told of them; and who is not, since this moment."""
        by_partition: dict[int, list[Record]] = {}
        for record in records:
            by_partition.setdefault(record.partition, []).append(record)
        refusals = self._publisher.refusals()
        passages: list[Passage] = []
        missed: Missed = []
        for number, some in by_partition.items():
            position = self.positions[number]
            self.positions[number] = max(position, some[-1].offset + 1)
            places = self._places[number].values()
            passages += divide(some, position, places, refusals, missed)
        return passages, missed

    async def missed(self, missed: Missed, refused: Missed) -> None:
        """Keep who was not told, before anything is committed.

        Args:
            missed: whom `passages` named.
            refused: whose topic has refused what it was handed.
        """
        reasons = {topic: refusal.reason for topic, refusal in self._publisher.refusals().items()}
        async with self._writing:
            behind: list[Place] = []
            for place, offset in [*missed, *refused]:
                topic = place.policy.topic if place.policy else ""
                reason = reasons.get(topic, COMPACTED)
                now = self.place(place.name, place.partition)
                if now is None:
                    # Revoked meanwhile, and not gone to another worker yet.
                    now = await self._kept(place)
                if now is not place and now.standing.digest != place.standing.digest:
                    continue
                known = now.standing
                if now is not place or (place, offset) in refused:
                    now.fall_behind(offset, reason)
                    if now.standing is known:
                        continue
                if now.standing.state is State.BEHIND:
                    behind.append(now)
            await self._write(behind)
        for place in behind:
            log.warning(
                "channel behind",
                channel=place.name,
                partition=place.partition,
                offset=place.standing.offset,
                reason=place.standing.reason,
            )

    async def _kept(self, place: Place) -> Place:
        kept = await until_it_works(self._standings.read)
        standing = kept.get(place.name, {}).get(place.partition)
        if standing is None:
            standing = place.standing._replace(state=State.JOINING, offset=0)
        return kept_place(place.name, place.partition, standing)

    async def settle(
        self, place: Place, standing: Standing, setbacks: int, *, keep: bool = True
    ) -> bool:
        """Take over a new standing, unless the place was set back; whether that is so.

        Without `keep` it is not written: a later one will be.
        """
        async with self._writing:
            if self.place(place.name, place.partition) is not place or place.setbacks != setbacks:
                return False
            place.standing = standing
            if keep:
                place.ending = False
                await self._write([place])
            if standing.state is State.LEFT:
                kept = (await until_it_works(self._standings.read)).get(place.name, {})
                if all(other.state is State.LEFT for other in kept.values()):
                    await until_it_works(partial(self._standings.forget, place.name))
            return True

    async def rejoin(self, channel: str, topic: str) -> None:
        """Have a channel told everything anew: what it was told went to another topic than this."""
        async with self._writing:
            again: list[Place] = []
            for number, places in self._places.items():
                known = places.get(channel)
                if known is None or known.policy is None or known.standing.topic in ("", topic):
                    continue
                places[channel] = Place(channel, number, known.policy, joining(known.policy))
                again.append(places[channel])
            await self._write(again)

    async def refused(self, place: Place) -> None:
        """Note that the topic of a channel has refused what it was to catch up with."""
        async with self._writing:
            if self.place(place.name, place.partition) is not place:
                return
            place.set_back()
            refusal = self._publisher.refusals().get(place.policy.topic if place.policy else "")
            reason = None if refusal is None else refusal.reason
            if reason != place.standing.reason:
                place.standing = place.standing._replace(reason=reason)
                await self._write([place])

    async def _write(self, places: Iterable[Place]) -> None:
        by_channel: dict[str, dict[int, Standing]] = {}
        for place in places:
            by_channel.setdefault(place.name, {})[place.partition] = place.standing
        for name, some in by_channel.items():
            await until_it_works(partial(self._standings.write, name, some))

    async def publish(self, messages: Sequence[OutgoingMessage]) -> "Handed":
        """Hand messages over; what is handed over must be `done` with in the end."""
        topics = frozenset(message.topic for message in messages)
        self.outstanding.update(topics)
        return Handed(await self._publisher.publish(messages), topics)

    def done(self, handed: "Handed") -> None:
        """What these messages have come to is noted: their topics may be tried again."""
        self.outstanding.subtract(handed.topics)

    def is_open(self, topic: str) -> bool:
        """Whether a topic takes messages, or may be tried again now."""
        refusal = self._publisher.refusals().get(topic)
        return refusal is None or (refusal.due and not self.outstanding[topic])


class Handed(NamedTuple):
    """Messages that were handed to the publisher; `receipt` gives the topics that refused."""

    receipt: Awaitable[frozenset[str]]
    topics: frozenset[str]
