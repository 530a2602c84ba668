"""Tells single channels of kind level and movement what the live path does not: all of it when one
is new, what it has missed when one was behind, and that there is no more when one is gone.

One channel in one partition is told at a time, a chunk between two batches, from the compacted
stock topic. Nothing is kept in memory but the chunk. A back-fill reads up to the end of the topic
as it was at its start; what comes after are ordinary messages, until the live path is met.
"""

import time
from collections.abc import Awaitable
from functools import partial

import structlog

from inventory.messages import OutgoingMessage
from inventory.policy import ChannelKind
from inventory.standing import Standing, State
from stream.job import Job
from stream.place import Place
from stream.publisher import Later, Publisher
from stream.retry import until_it_works
from stream.roll import Handed, Roll
from stream.standing import Standings
from stream.stock_reader import Chunk, Read

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
        self._job: Job | None = None

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

    def _holds(self, job: Job) -> bool:
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
        job = self._job = Job(
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
            parts=self._parts,
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

    async def _tell(self, job: Job, chunk: Chunk) -> Awaitable[None]:
        """Hand over what a chunk says; after the last one the live path goes on."""
        place, records = job.place, chunk.records
        end_now = partial(self._end_of, place)
        messages: list[OutgoingMessage] = []
        if not job.whole:
            messages, records = await job.walk(records, chunk.position, end_now)
        if job.whole:
            messages += await job.changes(records, chunk.position, end_now)
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

    def _reached(self, job: Job) -> Standing | None:
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

    def _has_met(self, job: Job) -> bool:
        """Whether the live path can go on from where the channel is."""
        live = self._roll.positions[job.place.partition]
        return job.whole and job.position >= max(live, job.balances)

    async def _end_of(self, place: Place) -> int:
        """Where the stock topic ends by now."""
        return await until_it_works(partial(self._standings.end, place.partition))

    async def _settle(
        self, job: Job, handed: Handed, standing: Standing | None, *, last: bool
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

    def _end(self, job: Job) -> None:
        if job.reading is not None:
            job.reading.stop()
        self._job = None

    @staticmethod
    def _log(event: str, job: Job) -> None:
        log.info(
            event,
            channel=job.place.name,
            partition=job.place.partition,
            offset=job.position,
            messages=job.messages,
        )


async def _nothing() -> None:
    """What is there to await when there was nothing to tell."""
