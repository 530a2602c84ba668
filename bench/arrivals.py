"""What has arrived, told apart: changes of stock, and numbers that a policy edit had computed anew.

Both carry their commit's time. But one edit moves every SKU at once: counted together with stock,
thousands of its messages would pass for slow sales, or its few seconds for the even load. So an
edit's arrivals are counted by themselves, while what stock waits for behind them stays with stock.
A change that was committed just before an edit and computed after it carries the edit's time, and
is counted as the edit's: an edit under load looks rather slower than it is.
"""

import threading
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from bench.latencies import Latencies, LatencySummary

#: What the Redis projection is called among the channels.
REDIS = "redis"

#: So long, in µs, arrivals wait to be counted: by then it is known whether an edit was committed.
_HOLD_US = 1_000_000

#: Edit (its commit time in µs since the epoch) → place → latencies.
EditSummaries: TypeAlias = Mapping[int, Mapping[str, LatencySummary]]


class Edits:
    """Policy edits seen so far, and the latencies from each to its arrival in each place."""

    def __init__(self) -> None:
        """Start without any."""
        self._edits: dict[int, dict[str, Latencies]] = {}
        self._lock = threading.Lock()

    def committed(self, at_us: int) -> None:
        """An edit was committed at this time, in µs since the epoch."""
        with self._lock:
            self._edits.setdefault(at_us, {})

    def of(self, at_us: int) -> int | None:
        """The edit of this commit time, if one was committed then."""
        return at_us if at_us in self._edits else None

    def shortly_before(self, at_us: int) -> int | None:
        """The last edit that the workers may not have known of at this time."""
        with self._lock:
            return max((e for e in self._edits if 0 <= at_us - e < _HOLD_US), default=None)

    def record(self, edit: int, place: str, microseconds: int) -> None:
        """Count one arrival of an edit."""
        with self._lock:
            places = self._edits[edit]
            if place not in places:
                places[place] = Latencies()
            places[place].record(microseconds)

    def summaries(self) -> EditSummaries:
        """By edit and place; an edit that has not arrived anywhere is there, without places."""
        with self._lock:
            return {
                edit: {place: found.summary() for place, found in places.items()}
                for edit, places in self._edits.items()
            }


class _Arrival(NamedTuple):
    place: str
    key: bytes
    event: bytes
    committed_us: int
    arrived_us: int


class Arrivals:
    """Counts the arrivals that one observer sees; not for several threads.

    A message that comes again says nothing new, as its subscribers know by its version, and is not
    counted: an edit has numbers told again that stock had changed a moment before. Nor is what was
    committed before the counting began: when it arrived first was not seen.

    Args:
        latencies: of stock changes, by place.
        edits: what arrives of them is counted there.
        since_us: when the counting began, in µs since the epoch.
    """

    def __init__(self, latencies: Mapping[str, Latencies], edits: Edits, since_us: int) -> None:
        self._latencies = latencies
        self._edits = edits
        self._since_us = since_us
        self._held: deque[_Arrival] = deque()
        self._last: dict[tuple[str, bytes], tuple[bytes, int]] = {}

    def add(self, place: str, key: bytes, event: bytes, committed_us: int, arrived_us: int) -> None:
        """Take one arrival.

        Args:
            place: `REDIS` or a channel's name.
            key: what it is about.
            event: stays the same when it comes again.
            committed_us: commit time in µs since the epoch.
            arrived_us: now, alike.
        """
        if committed_us >= self._since_us:
            self._held.append(_Arrival(place, key, event, committed_us, arrived_us))

    def settle(self, now_us: int | None = None) -> None:
        """Count what arrived long enough before `now_us`; everything without it."""
        while self._held and (now_us is None or now_us - self._held[0].arrived_us > _HOLD_US):
            self._count(self._held.popleft())

    def _count(self, arrival: _Arrival) -> None:
        place, key, event, committed_us, arrived_us = arrival
        edit = self._edits.of(committed_us)
        if edit is None:
            last = self._last.get((place, key))
            self._last[place, key] = (event, committed_us)
            if last is not None and last[0] == event:
                return
            if last is not None and last[1] == committed_us:
                # Stock had changed after the edit and was told by the old policy: told by the new.
                edit = self._edits.shortly_before(committed_us)
        if edit is None:
            self._latencies[place].record(arrived_us - committed_us)
        else:
            self._edits.record(edit, place, arrived_us - edit)
