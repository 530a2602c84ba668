"""Tells a channel of every SKU: when its policy changes, when it is new, gone or was behind.

All SKUs of the worker's partitions are walked through, a few between two batches of stock changes;
the channel is marked as told (`stream.told`) once Kafka has acknowledged all of it. So a crash, a
rebalance or a topic that refuses only has the walk done again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from redis.asyncio import Redis

from inventory.messages import (
    IN_SNAPSHOT,
    OutgoingMessage,
    availability_messages,
    snapshot_end,
)
from inventory.policy import PolicySet
from inventory.projection import SkuProjection
from projections.marks import Marks
from projections.ports import Projector, SkuChanges, Written
from projections.scan import scan_skus
from stream.alerts import Alerts, alerted
from stream.inbox import Inbox
from stream.lane import NO_SUCH_TOPIC
from stream.policy import PolicyTable
from stream.publisher import Later, Publisher
from stream.retry import until_it_works
from stream.told import Told, Wanted

log = structlog.stdlib.get_logger(__name__)

#: Parts of a step that are under way at once.
_AT_ONCE = 4

_NO_CHANGES = SkuChanges({})


@dataclass(slots=True)
class _Walk:
    """One walk through all SKUs.

    Attributes:
        wanted: whom to tell, by partition.
        topics: of these channels; one that is gone may have none.
        setbacks: of each topic at the start.
    """

    epoch: int
    wanted: Wanted
    topics: Mapping[str, str]
    setbacks: Counter[str]
    cursor: int = 0
    skus: int = 0
    channels: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """Name all channels that it tells."""
        self.channels = sorted({name for names in self.wanted.values() for name in names})


class Sweep:
    """The background work of an availability worker.

    Args:
        redis: where the projection is; `decode_responses=False`.
        told: which channels know everything.
        inbox: of the worker; its epoch tells when partitions were revoked.
        assigned: the partitions of the stock topic that this worker holds now.
        parts: how many partitions the stock topic and each channel's topic have.
        worker: its name, to tell people by.
        done: is told of partitions whose SKUs all channels know, again and again.
    """

    def __init__(
        self,
        redis: Redis,
        told: Told,
        projector: Projector,
        publisher: Publisher,
        table: PolicyTable,
        alerts: Alerts,
        inbox: Inbox,
        assigned: Callable[[], Collection[int]],
        parts: int,
        worker: str,
        done: Callable[[Collection[int]], None],
    ) -> None:
        self._redis = redis
        self._told = told
        self._marks = Marks(redis)
        self._projector = projector
        self._publisher = publisher
        self._table = table
        self._alerts = alerts
        self._inbox = inbox
        self._assigned = assigned
        self._parts = parts
        self._worker = worker
        self._done = done
        self._shown: set[str] = set()
        self._walk: _Walk | None = None
        self._settled: object = None
        #: The epoch of a walk that waits for its last acknowledgement: it is not marked yet.
        self._ending: int | None = None

    def ready(self) -> bool:
        """Whether there may be something to tell."""
        if self._ending == self._inbox.epoch:
            return False
        return self._walk is not None or self._settled != self._situation()

    async def step(self) -> Awaitable[None]:
        """Tell of a few SKUs, or find out whom to tell."""
        walk = self._walk
        if walk is not None and (walk.epoch != self._inbox.epoch or self._is_in_vain(walk)):
            walk = self._walk = None
        if walk is None:
            situation = self._situation()
            self._walk = await self._begin()
            self._settled = None if self._walk else situation
            return Later(_nothing)
        found = await until_it_works(lambda: scan_skus(self._redis, walk.cursor))
        walk.cursor = found.cursor
        policies = await self._told.policies(walk.wanted)
        messages: list[OutgoingMessage] = []
        alerts: dict[str, int] = {}
        for written in await self._project(walk, policies, found.skus):
            walk.skus += len(written.projections)
            messages += self._messages(walk, written, policies.committed_us)
            messages += await until_it_works(partial(self._alerts.of, written))
            alerts.update(alerted(written.projections))
        over = not walk.cursor
        if over:
            self._walk = None
            self._ending = walk.epoch
            messages += [
                snapshot_end(walk.topics[name], target, partition, self._parts)
                for partition, name in self._told.joined(walk.wanted)
                for target in range(self._parts)
            ]
        receipt = await self._publisher.publish(messages)
        return Later(lambda: self._confirm(walk, receipt, alerts, over=over))

    async def _project(
        self, walk: _Walk, policies: PolicySet, skus: Sequence[str]
    ) -> list[Written]:
        """Project SKUs anew, a part of them here while Redis works on another."""
        parts = [dict.fromkeys(skus[n::_AT_ONCE], _NO_CHANGES) for n in range(_AT_ONCE)]
        writes = [
            partial(self._projector.write, changes, policies, {}, walk.wanted)
            for changes in parts
            if changes
        ]
        return await asyncio.gather(*map(until_it_works, writes))

    def _situation(self) -> object:
        refusals = self._publisher.refusals().items()
        return (
            self._inbox.epoch,
            self._table.revision,
            self._told.setbacks.total(),
            self._told.looks,
            frozenset(self._assigned()),
            frozenset((topic, refusal.attempts, refusal.due) for topic, refusal in refusals),
        )

    async def _begin(self) -> _Walk | None:
        """A walk for all who are to be told; None if there are none."""
        epoch = self._inbox.epoch
        await self._show_refusals()
        await self._told.note(())
        refusals = self._publisher.refusals()
        await self._told.missing({t for t, r in refusals.items() if r.reason == NO_SUCH_TOPIC})
        self._done(set(self._assigned()) - self._told.wanted(()).keys())
        wanted = self._told.wanted({topic for topic, r in refusals.items() if not r.due})
        if not wanted:
            return None
        walk = _Walk(epoch, wanted, self._told.topics(), Counter(self._told.setbacks))
        for channel in walk.channels:
            if channel in walk.topics:
                self._publisher.reopen(walk.topics[channel])
        log.info("telling channels of every SKU", channels=walk.channels, partitions=len(wanted))
        return walk

    async def _show_refusals(self) -> None:
        """For people who look: why topics refuse, and how much was not published there."""
        now = time.time()
        refusals = {
            topic: {
                "reason": refusal.reason,
                "since": refusal.since,
                "attempts": refusal.attempts,
                "not_published": refusal.dropped,
                "at": now,
            }
            for topic, refusal in self._publisher.refusals().items()
        }
        over = self._shown - refusals.keys()
        await until_it_works(lambda: self._marks.refuse(self._worker, refusals, over))
        self._shown = set(refusals)

    def _is_in_vain(self, walk: _Walk) -> bool:
        """Whether every topic that it has something for refuses: it is begun anew later."""
        refusing = self._publisher.refusals().keys()
        return all(walk.topics.get(channel) in refusing for channel in walk.channels)

    def _messages(self, walk: _Walk, written: Written, edited_us: int) -> list[OutgoingMessage]:
        """What the channels of this walk are told, and others where it changes their number.

        A projection that was there already may be one that a walk wrote before a crash, for the
        latest edit: whether that was published is not known.
        """
        messages: list[OutgoingMessage] = []
        for projection in written.projections:
            partition = written.partitions[projection.sku]
            assert partition is not None
            stale = walk.wanted[partition]
            fresh = projection.committed_us == edited_us or projection.sku not in written.replayed
            for name in projection.channels:
                if name in stale:
                    marks = () if self._told.is_whole(partition, name) else IN_SNAPSHOT
                elif fresh and _has_changed(projection, name):
                    marks = ()
                else:
                    continue
                if name in walk.topics:
                    topic = (name, walk.topics[name])
                    messages += availability_messages(projection, (topic,), marks)
        return messages

    async def _confirm(
        self,
        walk: _Walk,
        receipt: Awaitable[frozenset[str]],
        alerts: Mapping[str, int],
        *,
        over: bool,
    ) -> None:
        refused = await receipt
        if refused:
            await self._told.behind(refused, walk.wanted)
        if alerts:
            await until_it_works(lambda: self._projector.alerted(alerts))
        if not over or walk.epoch != self._inbox.epoch:
            return
        await self._told.knows(walk.wanted, walk.topics, walk.setbacks)
        self._done(walk.wanted)
        self._ending = None
        self._settled = None
        log.info("channels know every SKU", channels=walk.channels, skus=walk.skus)


def _has_changed(projection: SkuProjection, channel: str) -> bool:
    """Whether a state differs from the one before: another channel's ring-fence may do that."""
    state = projection.channels[channel]
    return state is not None and (state.available, state.status) != (
        state.previous_available,
        state.previous_status,
    )


async def _nothing() -> None:
    """What is there to await when there was nothing to tell."""
