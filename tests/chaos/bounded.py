"""Nothing may hang for ever: a run of many faults must come to its end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_AGAIN_SECONDS = 120.0


class TooLong(Exception):  # noqa: N818 - a finding, not an error
    """Something hangs. No AssertionError: `eventually` takes that for "not yet"."""


@contextmanager
def bounded(seconds: float, again: float = _AGAIN_SECONDS) -> Iterator[None]:
    """Break off what takes longer; only in the main thread.

    Args:
        seconds: until then.
        again: and each time after so many more, for what is undone afterwards may hang as well.

    Raises:
        TooLong: wherever the main thread is then.
    """

    def ring(*_: object) -> None:
        raise TooLong(f"it takes longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, again)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
