"""What a process knows of its own health; any of its threads may tell and ask."""

import threading
import time
from dataclasses import dataclass

#: The check of the main loop itself.
LOOP = "loop"

#: The check that stands against every process until it says that it has started.
STARTED = "started"

#: The reason of a check that was never cleared.
NOT_YET = "not yet"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer.

    Attributes:
        ok: whether there is nothing against it.
        reasons: by check, what is against it, for people.
        facts: figures of the process, as JSON has them.
    """

    ok: bool
    reasons: dict[str, str]
    facts: dict[str, object]


class Health:
    """The health of one process.

    It is live while its main loop turns, and ready while it is live, has started, each expected
    check was cleared once, and no check has a problem.

    Args:
        process: how the process is called, e.g. availability.
        turn_limit: seconds that a turn of the main loop may take.

    Attributes:
        turned: when the main loop last turned, on the clock of `time.monotonic`.
    """

    def __init__(self, process: str, turn_limit: float = 10.0) -> None:
        self.process = process
        self._turn_limit = turn_limit
        self.turned = time.monotonic()
        self._problems = {STARTED: NOT_YET}
        self._facts: dict[str, object] = {}
        self._lock = threading.Lock()

    def turn(self) -> None:
        """Note that the main loop has turned; call it a few times within `turn_limit`."""
        self.turned = time.monotonic()

    def started(self) -> None:
        """Note that all that is expected has been said, and that the work begins."""
        self.problem(STARTED, None)

    def expect(self, *checks: str) -> None:
        """Be not ready until each of these checks was cleared by `problem(check, None)`."""
        with self._lock:
            for check in checks:
                self._problems.setdefault(check, NOT_YET)

    def problem(self, check: str, text: str | None) -> None:
        """Note what a check has found; None when all is well."""
        with self._lock:
            if text is None:
                self._problems.pop(check, None)
            else:
                self._problems[check] = text

    def facts(self, **values: object) -> None:
        """Set figures that are shown with each answer; they must be what JSON has."""
        with self._lock:
            self._facts |= values

    def live(self) -> Verdict:
        """Whether the main loop turns."""
        reasons = self._loop()
        with self._lock:
            return Verdict(not reasons, reasons, dict(self._facts))

    def ready(self) -> Verdict:
        """Whether the process lives and does its work."""
        reasons = self._loop()
        with self._lock:
            reasons |= self._problems
            return Verdict(not reasons, reasons, dict(self._facts))

    def _loop(self) -> dict[str, str]:
        still = time.monotonic() - self.turned
        if still <= self._turn_limit:
            return {}
        return {LOOP: f"the main loop has not turned for {still:.0f} s"}
