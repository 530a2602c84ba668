"""Where a worker begins in each partition: where Redis is, if Redis has lost what Kafka knows of.

The group's committed offsets say what was acknowledged, the checkpoints in Redis what Redis knows.
A checkpoint that is only too low (a failover, the tail of an append-only file) is replayed from in
the ordinary way. Where there is none at all, the partition number is restored: its rows are loaded
from the beginning of the topics, which are compacted, and nothing is projected from them until they
are complete; then the ordinary walk (`stream.sweep`) tells every channel of every SKU.
See docs/decisions/0014-loss-of-redis.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Protocol

import structlog

from projections.checkpoint import CheckpointState
from projections.ports import Checkpoint, Projector
from stream.retry import until_it_works

log = structlog.stdlib.get_logger(__name__)

#: The check that this module answers for.
PROJECTION = "projection"

#: Seconds between two comparisons of Redis with what it has acknowledged.
_COMPARE_SECONDS = 1.0

#: A topic and the number of one of its partitions.
Partition = tuple[str, int]

Ends = Callable[[Collection[Partition]], Awaitable[Mapping[Partition, int]]]
"""The offsets that the next records of these partitions will get."""


class Checkpoints(Protocol):
    """What is kept beside the projection (`projections.checkpoint`); all methods raise `Outage`."""

    async def begin(self) -> CheckpointState: ...
    async def restore(self, partitions: Collection[int], topics: Collection[str]) -> None: ...
    async def restored(self, partitions: Collection[int]) -> None: ...
    async def run_id(self) -> str: ...


class Marks(Protocol):
    """What is known of the channels (`stream.told`)."""

    async def forget(self, partitions: Collection[int]) -> None:
        """Note that nobody has been told anything of these partitions."""
        ...

    def look_again(self) -> None:
        """Read the marks anew: what they are kept in may have lost some."""
        ...


class Recovery:
    """What an availability worker restores, and a watch over what Redis has acknowledged.

    Args:
        checkpoints: what Redis knows.
        projector: is told how far that is.
        marks: are forgotten of partitions that are restored.
        topics: whose partitions of one number belong together.
        epoch: of the worker's inbox; another one means that partitions were revoked since.
        report: is told what keeps the projection from being whole, None when nothing does.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        projector: Projector,
        marks: Marks,
        topics: Collection[str],
        epoch: Callable[[], int],
        report: Callable[[str | None], None],
    ) -> None:
        self._checkpoints = checkpoints
        self._projector = projector
        self._marks = marks
        self._topics = topics
        self._epoch = epoch
        self._report = report
        self._begun: int | None = None
        self._held: frozenset[int] = frozenset()
        self._targets: dict[int, dict[Partition, int]] = {}
        self._positions: dict[Partition, int] = {}
        self._untold: set[int] = set()
        self._replayed: dict[Partition, int] = {}
        self._run_id: str | None = None

    @property
    def restoring(self) -> Collection[int]:
        """Partition numbers of which rows are loaded, and nothing is projected."""
        return self._targets.keys()

    def whole(self) -> frozenset[int]:
        """Partition numbers that the worker holds and whose rows are complete."""
        if self._begun != self._epoch():
            return frozenset()
        return self._held - self._targets.keys()

    async def begin(
        self, committed: Mapping[Partition, int | None], ends: Ends
    ) -> dict[Partition, int]:
        """Find out where to begin after an assignment, before any record of it is taken.

        Args:
            committed: the group's offset of each partition that was assigned, None without one.
            ends: where the topics end.

        Returns:
            The partitions that do not begin at their committed offset, and where they begin.
        """
        epoch = self._epoch()
        state = await until_it_works(self._checkpoints.begin)
        numbers = frozenset(partition for _, partition in committed)
        lost = {
            place[1]
            for place, offset in committed.items()
            if offset and place not in state.offsets and place[1] not in state.restoring
        }
        if lost:
            await until_it_works(lambda: self._checkpoints.restore(lost, self._topics))
        restoring = {*lost, *(state.restoring & numbers)}
        known = {
            place: state.offsets[place]
            for place in committed
            if place in state.offsets and place[1] not in lost
        }
        starts = {
            place: known.get(place, 0)
            for place, offset in committed.items()
            if offset and known.get(place, 0) < offset
        }
        there = await ends([p for p in committed if p[1] in restoring or p in starts])
        self._targets = {
            number: {
                place: min(offset or there[place], there[place])
                for place, offset in committed.items()
                if place[1] == number
            }
            for number in restoring
        }
        self._replayed = {
            place: min(committed[place] or 0, there[place])
            for place in starts
            if place[1] not in restoring
        }
        self._positions = dict(known)
        # Whoever loaded the rest may have ended before the walk did.
        self._untold = {*restoring, *(state.loaded & numbers)}
        self._projector.begin(known, restoring)
        self._held, self._begun = numbers, epoch
        self._tell(starts, committed)
        await self._finish()
        return starts

    async def loaded(self, positions: Checkpoint) -> None:
        """Note how far rows are loaded; where all of them are, they may be projected."""
        self._positions |= positions
        self._say()
        await self._finish()

    def written(self, positions: Checkpoint) -> None:
        """Note how far the projection is; where it is replayed, that may be all that was lost."""
        if not self._replayed:
            return
        over = {p for p, target in self._replayed.items() if positions.get(p, 0) >= target}
        if over:
            self._replayed = {p: t for p, t in self._replayed.items() if p not in over}
            partitions = {number for _, number in over} - {number for _, number in self._replayed}
            if partitions:
                log.info("projection whole again", partitions=sorted(partitions))
            self._say()

    def told(self, partitions: Collection[int]) -> None:
        """Note that all SKUs of these partitions are projected and told."""
        restored = self._untold.intersection(partitions) - self._targets.keys()
        if restored:
            self._untold -= restored
            log.info("projection whole again", partitions=sorted(restored))
            self._say()

    async def watch(self) -> None:
        """Compare Redis with what it has acknowledged, once a second, until cancelled.

        Raises:
            ProjectionLost: Redis knows less.
        """
        while True:
            await asyncio.sleep(_COMPARE_SECONDS)
            await until_it_works(self._projector.check)
            run_id = await until_it_works(self._checkpoints.run_id)
            if self._run_id not in (None, run_id):
                log.warning("another Redis answers, or it was restarted; no checkpoint is missing")
                self._marks.look_again()
            self._run_id = run_id

    async def _finish(self) -> None:
        """Let partitions whose rows are all loaded be projected by the walk through all SKUs."""
        over = {
            number
            for number, targets in self._targets.items()
            if all(self._positions.get(place, 0) >= target for place, target in targets.items())
        }
        if not over:
            return
        # In this order: a crash in between has it done again.
        await self._marks.forget(over)
        await until_it_works(lambda: self._checkpoints.restored(over))
        for number in over:
            del self._targets[number]
        log.info("rows restored", partitions=sorted(over))
        self._say()

    def _tell(
        self, starts: Mapping[Partition, int], committed: Mapping[Partition, int | None]
    ) -> None:
        if starts:
            log.error(
                "projection lost",
                reason="Redis knows less than Kafka says was applied; it is replayed",
                partitions={
                    f"{topic}/{number}": f"{start} instead of {committed[topic, number]}"
                    for (topic, number), start in starts.items()
                },
            )
        if self._targets:
            log.info("restoring", partitions=sorted(self._targets))
        self._say()

    def _say(self) -> None:
        said = []
        if self._targets:
            targets = [target for each in self._targets.values() for target in each.items()]
            done = sum(min(self._positions.get(place, 0), target) for place, target in targets)
            total = sum(target for _, target in targets)
            said.append(
                f"restoring partition {_listed(self._targets)}: {done:,} of {total:,} records"
            )
        elif self._untold:
            said.append(f"telling every SKU of partition {_listed(self._untold)} anew")
        if self._replayed:
            numbers = {number for _, number in self._replayed}
            said.append(f"replaying what Redis has lost of partition {_listed(numbers)}")
        self._report("; ".join(said) or None)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
