"""Wait for what must become true: poll with a deadline, never sleep and hope."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Generous: the machine may be shared and slow. Correctness is exact, time is not.
DEADLINE = 60.0


def eventually(check: Callable[[], T], timeout: float = DEADLINE, interval: float = 0.02) -> T:
    """Call `check` until it returns something true, and return that.

    An AssertionError raised by `check` means "not yet"; the last one explains a failure.
    """
    deadline = time.monotonic() + timeout
    last: AssertionError | None = None
    while True:
        try:
            found = check()
        except AssertionError as exc:
            last = exc
        else:
            if found:
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {last or check}") from last
        time.sleep(interval)
