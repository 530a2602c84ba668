"""Whether a worker has stalled: what a watchdog saw over time, and what it makes of it. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field

#: A topic and the number of one of its partitions.
Partition = tuple[str, int]

#: One partition among others that move, and a rebalance, are waited for so many times longer: what
#: comes first in a large backlog is nobody's stall.
PATIENCE = 4

#: The part of the limit between two looks.
_LOOKS = 15
_LONGEST_PAUSE = 2.0


def pace(limit: float) -> float:
    """Seconds between two looks."""
    return min(limit / _LOOKS, _LONGEST_PAUSE)


@dataclass(frozen=True, slots=True)
class Look:
    """A worker at one moment.

    Attributes:
        at: on a clock that never goes back, in seconds.
        turned: when its event loop last turned, on any clock; only compared for equality.
        answers: whether Kafka answered.
        waiting: an outage is being waited for.
        assigned: its partitions are known; False in the middle of a rebalance.
        positions: of each partition it holds, the offset up to which all is confirmed.
        ends: of each partition it holds, the offset that the next record will get.
    """

    at: float
    turned: float
    answers: bool = True
    waiting: bool = False
    assigned: bool = True
    positions: Mapping[Partition, int] = field(default_factory=dict)
    ends: Mapping[Partition, int] = field(default_factory=dict)

    def lag(self) -> dict[Partition, int]:
        """How many records wait in each partition in which any do."""
        return {
            partition: end - self.positions[partition]
            for partition, end in self.ends.items()
            if partition in self.positions and end > self.positions[partition]
        }


class Judge:
    """Looks at a worker again and again, and says when it has stalled.

    Time counts only while somebody looks: a process that was stopped (SIGSTOP, a suspended
    machine) has not stalled.

    Args:
        limit: seconds for which a worker may have lag and not move.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._step = 2 * pace(limit)
        self._clock = 0.0
        self._last: Look | None = None
        self._turned = 0.0
        self._moved = 0.0
        self._assigned = 0.0
        self._standing: dict[Partition, float] = {}

    def still(self) -> float:
        """Seconds for which the partition that waits longest has had lag and has not moved."""
        return self._clock - min(self._standing.values(), default=self._clock)

    def see(self, look: Look) -> str | None:
        """Take one more look; why the worker has stalled, or None."""
        last, self._last = self._last, look
        if last is not None:
            self._clock += min(look.at - last.at, self._step)
        now = self._clock
        if last is None or look.turned != last.turned:
            self._turned = now
        if now - self._turned >= self._limit:
            return f"the event loop has not turned for {now - self._turned:.0f} s"
        if not look.answers or look.waiting:
            self._standing.clear()
            self._moved = self._assigned = now
            return None
        return self._rebalance(look, now) or self._lag(look, last, now)

    def _rebalance(self, look: Look, now: float) -> str | None:
        if look.assigned:
            self._assigned = now
        elif now - self._assigned >= self._limit * PATIENCE:
            return f"a rebalance has not ended for {now - self._assigned:.0f} s"
        return None

    def _lag(self, look: Look, last: Look | None, now: float) -> str | None:
        before = {} if last is None else last.positions
        lag = look.lag()
        if not lag or any(before.get(p) != at for p, at in look.positions.items()):
            self._moved = now
        self._standing = {
            partition: self._standing.get(partition, now)
            for partition in lag
            if before.get(partition) == look.positions[partition]
        }
        if not self._standing:
            return None
        slowest = min(self._standing, key=lambda p: (self._standing[p], p))
        still = now - self._standing[slowest]
        alone = now - self._moved < self._limit
        if still < self._limit * (PATIENCE if alone else 1):
            return None
        topic, number = slowest
        return (
            f"{sum(lag.values())} records wait, and partition {number} of {topic} has not moved "
            f"from offset {look.positions[slowest]} for {still:.0f} s"
        )
