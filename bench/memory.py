"""The most memory that processes took while something ran."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

Read = Callable[[], Mapping[str, int]]
"""Bytes now, by process name."""


@dataclass(slots=True)
class Peaks:
    """The highest readings so far, in bytes.

    Attributes:
        each: of every process by itself.
        together: of all of them at one moment.
    """

    each: dict[str, int] = field(default_factory=dict)
    together: int = 0

    def add(self, reading: Mapping[str, int]) -> None:
        """Take one reading."""
        for name, size in reading.items():
            self.each[name] = max(size, self.each.get(name, 0))
        self.together = max(self.together, sum(reading.values()))


@contextmanager
def sampled(read: Read, every: float) -> Iterator[Peaks]:
    """Read while inside the context, `every` so many seconds and once at its end."""
    peaks = Peaks()
    stopping = threading.Event()

    def sample() -> None:
        while not stopping.wait(every):
            peaks.add(read())

    thread = threading.Thread(target=sample, name="memory", daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        stopping.set()
        thread.join()
        peaks.add(read())


def resident(pids: Mapping[str, int]) -> dict[str, int]:
    """Resident memory (RSS) in bytes, without children; processes that are gone are left out."""
    sizes = {}
    for name, pid in pids.items():
        try:
            sizes[name] = psutil.Process(pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return sizes
