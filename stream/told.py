"""Which availability channels have been told of every SKU, and by which rules.

The marks are kept per partition of the stock topic, beside the projection (`projections.marks`),
and changed under one lock: the batches that fail and the walks that end do so at any time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from inventory.policy import ChannelKind, ChannelPolicy, PolicySet, rules_digest
from projections.marks import BEHIND, NOT_WHOLE, Marks
from stream.inbox import Inbox
from stream.policy import PolicyTable
from stream.retry import until_it_works

#: By partition, the channels that are to be told of every SKU and the digests of their rules; None
#: for a channel that is gone.
Wanted = dict[int, dict[str, str | None]]


class Told:
    """What a worker knows of its channels.

    Args:
        marks: where it is kept.
        table: the policies as of now.
        inbox: of the worker; its epoch tells when partitions were revoked.
        assigned: the partitions of the stock topic that the worker holds now.

    Attributes:
        setbacks: by topic, how often it has missed something.
        looks: rises when the marks are to be read anew.
    """

    def __init__(
        self,
        marks: Marks,
        table: PolicyTable,
        inbox: Inbox,
        assigned: Callable[[], Collection[int]],
    ) -> None:
        self._store = marks
        self._table = table
        self._inbox = inbox
        self._assigned = assigned
        self._lock = asyncio.Lock()
        self._marks: dict[int, dict[str, str]] = {}
        self._whole: set[tuple[int, str]] = set()
        self._noted: tuple[int, int] | None = None
        self._noted_partitions: set[int] = set()
        #: Channels that are gone together with their topic.
        self._unheard: set[str] = set()
        self.setbacks: Counter[str] = Counter()
        self.looks = 0

    def is_whole(self, partition: int, channel: str) -> bool:
        """Whether the channel was told of all SKUs of a partition; else it is being told."""
        return (partition, channel) in self._whole

    def topics(self) -> dict[str, str]:
        """The topic of each channel, also of those that are gone, if somebody may read it."""
        departed = self._table.departed(ChannelKind.AVAILABILITY)
        gone = [policy for policy in departed if policy.name not in self._unheard]
        return {policy.name: policy.topic for policy in (*gone, *self._listed())}

    async def policies(self, partitions: Collection[int]) -> PolicySet:
        """All availability channels, and those that are gone and may not have heard of it.

        Args:
            partitions: what is to be told comes from these.
        """
        current = (self._inbox.epoch, self._table.revision)
        if self._noted != current or not self._noted_partitions.issuperset(partitions):
            await self.note(partitions)
        pending = {name for marks in self._marks.values() for name in marks}
        departed = self._table.departed(ChannelKind.AVAILABILITY)
        return PolicySet.of(
            self._listed(), {p.name: p.topic for p in departed if p.name in pending}
        )

    async def note(self, partitions: Collection[int]) -> None:
        """Read the marks, and mark channels that are new before their first message.

        Whoever leaves when half is told is to hear of that as well.
        """
        async with self._lock:
            noted = (self._inbox.epoch, self._table.revision)
            names = [policy.name for policy in self._listed()]
            before, marks = self._marks, await until_it_works(self._store.read)
            self._marks = marks
            for partition, told in marks.items():
                self._set_back(before.get(partition, {}), told)
            self._noted_partitions = {*partitions, *self._assigned()}
            for partition in self._noted_partitions:
                told = marks.setdefault(partition, {})
                begun = {name: NOT_WHOLE for name in names if name not in told}
                if begun:
                    told |= begun
                    await self._write(partition)
            self._whole = {
                (partition, channel)
                for partition, digests in marks.items()
                for channel, digest in digests.items()
                if digest != NOT_WHOLE
            }
            self._noted = noted

    def look_again(self) -> None:
        """Read the marks anew before they are used again: Redis may have lost some."""
        self._noted = None
        self.looks += 1

    async def forget(self, partitions: Collection[int]) -> None:
        """Note that what anybody was told of these partitions is not known any longer.

        Also channels that are gone may not have heard of it.
        """
        gone = self._table.departed(ChannelKind.AVAILABILITY)
        async with self._lock:
            for partition in partitions:
                self._marks[partition] = {policy.name: BEHIND for policy in gone} | {
                    policy.name: NOT_WHOLE for policy in self._listed()
                }
                await self._write(partition)
        self.look_again()

    def wanted(self, closed: Collection[str]) -> Wanted:
        """Whom to tell of every SKU, as of the last `note`; not those whose topic is closed."""
        rules = {policy.name: rules_digest(policy) for policy in self._listed()}
        topics = self.topics()
        wanted: Wanted = {}
        for partition in self._assigned():
            told = self._marks.get(partition, {})
            stale: dict[str, str | None] = {
                name: digest for name, digest in rules.items() if told.get(name) != digest
            }
            stale |= {name: None for name in told if name not in rules}
            stale = {name: d for name, d in stale.items() if topics.get(name) not in closed}
            if stale:
                wanted[partition] = stale
        return wanted

    async def missing(self, topics: Collection[str]) -> None:
        """Note that these topics do not exist: one made anew has to be told everything.

        Of a channel that is gone together with its topic nobody is left to be told; the projection
        still has its numbers.
        """
        self._unheard, listed = (
            {policy.name for policy in policies if policy.topic in topics}
            for policies in (self._table.departed(ChannelKind.AVAILABILITY), self._listed())
        )
        async with self._lock:
            for partition in self._assigned():
                marks = self._marks.setdefault(partition, {})
                noted = marks | dict.fromkeys(listed, NOT_WHOLE)
                if noted != marks:
                    self._marks[partition] = noted
                    self._whole -= {(partition, name) for name in listed}
                    await self._write(partition)

    def joined(self, wanted: Wanted) -> list[tuple[int, str]]:
        """Those that have now been handed everything for the first time, from each partition."""
        joined = {
            (partition, name)
            for partition, stale in wanted.items()
            for name, digest in stale.items()
            if digest is not None and not self.is_whole(partition, name)
        }
        self._whole |= joined
        return sorted(joined)

    async def behind(self, topics: Iterable[str], partitions: Iterable[int]) -> None:
        """Note, before anything is committed, that these topics have missed something.

        What they miss is no back-fill: who reads them has heard of all SKUs before.
        """
        missed = set(topics)
        channels = {policy.name for policy in self._listed() if policy.topic in missed}
        async with self._lock:
            self.setbacks.update(missed)
            for partition in partitions:
                marks = self._marks.setdefault(partition, {})
                for channel in channels:
                    joining = marks.get(channel, NOT_WHOLE) == NOT_WHOLE
                    marks[channel] = NOT_WHOLE if joining else BEHIND
                await self._write(partition)

    async def knows(
        self, wanted: Wanted, topics: Mapping[str, str], setbacks: Mapping[str, int]
    ) -> None:
        """Mark these as told, but for topics with setbacks since `setbacks` was taken."""
        async with self._lock:
            for partition, stale in wanted.items():
                marks = self._marks.setdefault(partition, {})
                for name, digest in stale.items():
                    topic = topics.get(name, "")
                    if self.setbacks[topic] != setbacks.get(topic, 0):
                        continue
                    if digest is None:
                        marks.pop(name, None)
                    else:
                        marks[name] = digest
                await self._write(partition)

    def _listed(self) -> tuple[ChannelPolicy, ...]:
        return self._table.of_kind(ChannelKind.AVAILABILITY)

    async def _write(self, partition: int) -> None:
        """Set the marks of a partition; channels that others have marked as behind stay so."""
        marks = self._marks[partition]
        write = partial(self._store.write, partition, marks)
        while (others := await until_it_works(write)) is not None:
            self._set_back(marks, others)
            behind = {name for name, mark in others.items() if mark == BEHIND}
            for name in behind - {name for name, mark in marks.items() if mark == NOT_WHOLE}:
                marks[name] = BEHIND
            self.looks += 1

    def _set_back(self, known: Mapping[str, str], others: Mapping[str, str]) -> None:
        """Count what somebody else has marked as behind: a walk under way is not enough."""
        topics = self.topics()
        self.setbacks.update(
            topics[name]
            for name, mark in others.items()
            if mark == BEHIND and known.get(name) != BEHIND and name in topics
        )
