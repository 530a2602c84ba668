"""Tells single channels of kind level and movement what the live path does not: all of it when one
is new, what it has missed when one was behind, and that there is no more when one is gone.

One channel in one partition is told at a time, a chunk between two batches, from the compacted
stock topic. Nothing is kept in memory but the chunk. A back-fill reads up to the end of the topic
as it was at its start; what comes after are ordinary messages, until the live path is met.
"""

import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from inventory.messages import OutgoingMessage, snapshot_end
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.stock import StockChange
from stream.changes import decode
from stream.inbox import Record
from stream.place import Place, gaps_in
from stream.publisher import Later, Publisher
from stream.retry import until_it_works
from stream.roll import Handed, Roll
from stream.standing import GROUP, Standing, Standings, State
from stream.stock_reader import Chunk, Read, Reading
from stream.telling import changes_told, farewell, state_told

log = structlog.stdlib.get_logger(__name__)

#: Seconds between two notes of how far a channel has caught up.
_NOTE = 1.0

#: Who waits for less goes first.
_ORDER = (State.BEHIND, State.LEAVING, State.JOINING)

_BEGUN = {
    State.BEHIND: "channel catches up",
    State.LEAVING: "channel leaves",
    State.JOINING: "channel joins",
}
_DONE = {State.LIVE: "channel knows everything", State.LEFT: "channel has left"}


@dataclass(slots=True)
class _Job:
    """One channel to be told in one partition.

    Attributes:
        end: how far the walk goes, where there is one.
        position: the next offset to tell.
        balances: up to this offset a ledger is told balances, since movements are missing.
        topic: its id.
        withdraw: whether its topic may hold rows that it hears of no longer.
        whole: whether it knows all up to `position`: else all rows are being walked through.
        gaps: whether compaction may have taken a record meanwhile.
    """

    place: Place
    policy: ChannelPolicy
    setbacks: int
    end: int
    position: int
    whole: bool
    withdraw: bool
    gaps: bool
    topic: str
    reading: Reading | None = None
    balances: int = 0
    messages: int = 0
    noted: float = 0.0

    @property
    def leaving(self) -> bool:
        """Whether the channel is gone."""
        return self.place.standing.state is State.LEAVING


class CatchUp:
    """The background work of a ledger worker.

    Args:
        read: begins to read the stock topic.
        parts: how many partitions the stock topic and each channel's topic have.
    """

    def __init__(
        self,
        roll: Roll,
        publisher: Publisher,
        standings: Standings,
        read: Read,
        parts: int,
    ) -> None:
        self._roll = roll
        self._publisher = publisher
        self._standings = standings
        self._read = read
        self._parts = parts
        self._job: _Job | None = None

    def ready(self) -> bool:
        """Whether there is something to do now."""
        if not self._roll.fresh():
            return True
        job = self._job
        if job is None:
            return self._next() is not None
        return not self._holds(job) or (job.reading is not None and job.reading.ready())

    async def step(self) -> Awaitable[None]:
        """Tell a channel a little, or find out which one to tell."""
        if not self._roll.fresh():
            await self._roll.renew()
        job = self._job
        if job is not None and not self._holds(job):
            self._end(job)
            job = None
        if job is None:
            place = self._next()
            return Later(_nothing) if place is None else await self._begin(place)
        if job.reading is None or not job.reading.ready():
            return Later(_nothing)
        return await self._tell(job, job.reading.take())

    def _holds(self, job: _Job) -> bool:
        """Whether what a job is about has not changed."""
        place = job.place
        return (
            self._roll.place(place.name, place.partition) is place
            and place.setbacks == job.setbacks
            and self._roll.is_open(job.policy.topic)
        )

    def _next(self) -> Place | None:
        """Whom to tell now."""
        waiting = [
            place
            for place in self._roll.waiting()
            if place.policy is None or self._roll.is_open(place.policy.topic)
        ]
        return min(
            waiting,
            key=lambda p: (_ORDER.index(p.standing.state), p.partition, p.name),
            default=None,
        )

    async def _begin(self, place: Place) -> Awaitable[None]:
        policy, standing = place.policy, place.standing
        behind = standing.state is State.BEHIND
        if policy is None:
            return self._leave(place)
        topic = await until_it_works(partial(self._standings.topic, policy.topic))
        # What is on its way does not show there yet.
        used = topic is not None and (topic.used or self._roll.outstanding[policy.topic] > 0)
        if standing.state is State.LEAVING and not used:
            return self._leave(place)
        if behind and topic is not None and standing.topic not in ("", topic.id):
            await self._roll.rejoin(place.name, topic.id)
            return Later(_nothing)
        self._publisher.reopen(policy.topic)
        job = self._job = _Job(
            place,
            policy,
            place.setbacks,
            # Who is told live from the beginning on has an empty back-fill.
            end=0 if behind or place.live else await self._end_of(place),
            position=standing.offset,
            whole=behind,
            withdraw=used and policy.kind is ChannelKind.LEVEL,
            gaps=not place.live,
            topic=standing.topic if topic is None else topic.id,
            noted=time.monotonic(),
        )
        self._log(_BEGUN[standing.state], job)
        if (job.position >= job.end and not behind) or self._has_met(job):
            return await self._tell(job, Chunk([], job.position))
        job.reading = self._read(place.partition, job.position)
        return Later(_nothing)

    def _leave(self, place: Place) -> Awaitable[None]:
        """Note that a channel is gone of which nobody is left to be told."""
        place.ending = True
        return Later(lambda: self._settle_left(place))

    async def _settle_left(self, place: Place) -> None:
        left = place.standing._replace(state=State.LEFT)
        if await self._roll.settle(place, left, place.setbacks):
            log.info(_DONE[State.LEFT], channel=place.name, partition=place.partition)

    async def _tell(self, job: _Job, chunk: Chunk) -> Awaitable[None]:
        """Hand over what a chunk says; after the last one the live path goes on."""
        place, records = job.place, chunk.records
        messages: list[OutgoingMessage] = []
        if not job.whole:
            messages, records = await self._walk(job, records, chunk.position)
        if job.whole:
            messages += await self._changes(job, records, chunk.position)
        job.messages += len(messages)
        standing = self._reached(job)
        last = standing is not None and standing.state is not State.BEHIND
        if last:
            place.ending = True
            self._end(job)
        elif job.reading is None:
            job.reading = self._read(place.partition, job.position)
        handed = await self._roll.publish(messages)
        return Later(lambda: self._settle(job, handed, standing, last=last))

    def _reached(self, job: _Job) -> Standing | None:
        """How the channel stands once all that was handed over is acknowledged, if otherwise."""
        place = job.place
        if job.leaving:
            done = job.position == job.end
            return place.standing._replace(state=State.LEFT) if done else None
        if place.live or self._has_met(job):
            if not place.live:
                place.live, place.told = True, job.position
            digest = place.standing.digest
            return Standing(State.LIVE, place.told, digest, None, time.time(), job.topic)
        if job.whole and job.position >= job.balances:
            return place.standing._replace(state=State.BEHIND, offset=job.position, topic=job.topic)
        return None

    def _has_met(self, job: _Job) -> bool:
        """Whether the live path can go on from where the channel is."""
        live = self._roll.positions[job.place.partition]
        return job.whole and job.position >= max(live, job.balances)

    async def _walk(
        self, job: _Job, records: Sequence[Record], end: int
    ) -> tuple[list[OutgoingMessage], Sequence[Record]]:
        """What these records, all there are up to `end`, leave of each row; and those to come.

        While this goes on, compaction may take a record for the sake of one that lies beyond the
        end: then there is a gap, and the end is moved to where the topic ends by now.
        """
        messages: list[OutgoingMessage] = []
        while True:
            stop = min(end, job.end)
            before = [record for record in records if record.offset < stop]
            records = [record for record in records if record.offset >= stop]
            job.gaps = job.gaps or any(gaps_in(before, job.position, stop))
            changes = _changes(before)
            if job.leaving:
                messages += farewell(changes, job.policy)
            else:
                messages += state_told(changes, job.policy, snapshot=True, withdraw=job.withdraw)
            job.position = stop
            if stop < job.end:
                return messages, records
            ends = await self._end_of(job.place) if job.gaps else stop
            if ends <= stop:
                break
            job.end, job.gaps = ends, False
        if not job.leaving:
            messages += self._ends(job)
            job.whole = True
        return messages, records

    async def _changes(
        self, job: _Job, records: Sequence[Record], end: int
    ) -> list[OutgoingMessage]:
        """What these records, all there are up to `end`, say one by one.

        Where some are missing, a ledger cannot add them up: it is told balances instead, up to
        where the topic ends by now, which is not before anything that it has been told already.
        """
        known, gap = job.balances, next(iter(gaps_in(records, job.position, end)), None)
        job.position = max(job.position, end)
        if job.policy.kind is ChannelKind.LEVEL:
            return changes_told(_changes(records), [job.policy])
        whole = end if gap is None else gap.start
        if gap is not None:
            job.balances = max(end, await self._end_of(job.place))
        before = _changes(r for r in records if r.offset < known)
        single = _changes(r for r in records if known <= r.offset < whole)
        after = _changes(r for r in records if r.offset >= max(known, whole))
        return [
            *state_told(before, job.policy, snapshot=False),
            *changes_told(single, [job.policy]),
            *state_told(after, job.policy, snapshot=False),
        ]

    async def _end_of(self, place: Place) -> int:
        """Where the stock topic ends by now."""
        return await until_it_works(partial(self._standings.end, place.partition))

    def _ends(self, job: _Job) -> list[OutgoingMessage]:
        """The end of a part of a back-fill, in every partition of the channel's topic."""
        part = job.place.partition
        return [snapshot_end(job.policy.topic, n, part, self._parts) for n in range(self._parts)]

    async def _settle(
        self, job: _Job, handed: Handed, standing: Standing | None, *, last: bool
    ) -> None:
        topics = await handed.receipt
        if job.policy.topic in topics:
            await self._roll.refused(job.place)
        elif standing is not None:
            keep = last or time.monotonic() - job.noted > _NOTE
            if await self._roll.settle(job.place, standing, job.setbacks, keep=keep) and keep:
                job.noted = time.monotonic()
                if last:
                    self._log(_DONE[standing.state], job)
        self._roll.done(handed)

    def _end(self, job: _Job) -> None:
        if job.reading is not None:
            job.reading.stop()
        self._job = None

    @staticmethod
    def _log(event: str, job: _Job) -> None:
        log.info(
            event,
            channel=job.place.name,
            partition=job.place.partition,
            offset=job.position,
            messages=job.messages,
        )


def _changes(records: Iterable[Record]) -> list[StockChange]:
    """The live path has set aside what cannot be read."""
    return decode(records, GROUP).changes


async def _nothing() -> None:
    """What is there to await when there was nothing to tell."""
