"""Latencies counted in a histogram: cheap to record, and of one size whatever is recorded."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Self

#: Buckets per power of two, as bits: 7 keeps a reading within 0.8 % of the truth.
_PRECISION = 7
_BUCKETS = 1 << _PRECISION
#: Latencies above this, 12 days in µs, are counted as this.
_HIGHEST = 1 << 40


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """What was measured so far; times in ms, None when nothing was."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    max: float | None

    @classmethod
    def from_json(cls, values: Mapping[str, float | None]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        return cls(**values)  # type: ignore[arg-type]


class Latencies:
    """A histogram of latencies with buckets that widen with the value, as HdrHistogram has it."""

    __slots__ = ("_counts", "_max", "count")

    def __init__(self) -> None:
        """Start empty."""
        self._counts = [0] * (_bucket(_HIGHEST) + 1)
        self._max = 0
        self.count = 0

    def record(self, microseconds: int) -> None:
        """Count one; a negative one, which a stepped clock gives, counts as zero."""
        value = min(max(microseconds, 0), _HIGHEST)
        self._counts[_bucket(value)] += 1
        self.count += 1
        self._max = max(self._max, value)

    def percentile(self, part: float) -> int | None:
        """The latency in µs that a part of all, 0 to 1, does not exceed; None when empty.

        The upper end of its bucket, so that rounding never flatters, and never above the maximum.
        """
        if not self.count:
            return None
        wanted = max(1, ceil(part * self.count))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(_highest_in(bucket), self._max)
        return self._max

    def summary(self) -> LatencySummary:
        """The usual percentiles."""
        readings = [self.percentile(part) for part in (0.5, 0.9, 0.99, 0.999, 1.0)]
        return LatencySummary(
            self.count, *(None if us is None else round(us / 1000, 2) for us in readings)
        )


def _bucket(value: int) -> int:
    # Each value below 2 * _BUCKETS has its own; each doubling from there on, buckets twice as wide.
    shift = max(0, value.bit_length() - _PRECISION - 1)
    return (shift << _PRECISION) + (value >> shift)


def _highest_in(bucket: int) -> int:
    if bucket < 2 * _BUCKETS:
        return bucket
    shift = (bucket >> _PRECISION) - 1
    return ((bucket - (shift << _PRECISION) + 1) << shift) - 1
