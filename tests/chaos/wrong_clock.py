"""Runs a worker whose wall clock is off: `python -m tests.chaos.wrong_clock <seconds> <agent>`."""

import datetime
import runpy
import sys
import time
from collections.abc import Callable


def set_off(seconds: int) -> None:
    """Put Python's wall clock forward by so many seconds; the monotonic clock stays."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + seconds * 1_000_000_000

    class WrongDatetime(datetime.datetime):
        now: Callable = classmethod(
            lambda cls, tz=None: cls.fromtimestamp(time.time(), tz)  # type: ignore[assignment]
        )

    datetime.datetime = WrongDatetime  # type: ignore[misc]


if __name__ == "__main__":
    set_off(int(sys.argv[1]))
    sys.argv = ["stream", *sys.argv[2:]]
    runpy.run_module("stream", run_name="__main__")
