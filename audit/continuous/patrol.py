"""The main loop of the auditor: walks, looks into what it meets, and says how it stands."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import orjson
import structlog
from redis import Redis

from audit.continuous.flight import Pipeline
from audit.continuous.follower import Follower
from audit.continuous.inquiry import Inquiry, described
from audit.continuous.walk import Step, Walk
from health import STARTED, Health
from inventory.errors import Outage
from inventory.policy import ChannelPolicy
from projections.outage import redis_outages

log = structlog.stdlib.get_logger(__name__)

#: The last figures as JSON, for people.
AUDIT_KEY = "stockwire:audit"

#: A million rows in about two minutes, ghosts included.
_ROWS_PER_SECOND = 9_200
_KEYS_PER_SECOND = 150_000
_SHORTEST_PASS = 5.0
_BETWEEN_STEPS = 0.5
_BETWEEN_REPORTS = 2.0
_RETRY_SECONDS = 1.0
#: A wait that is longer is said.
_PATIENCE = 10.0
#: Suspects that wait for longer mean that the auditor sees nothing: it is not ready.
BLIND_SECONDS = 60.0

_T = TypeVar("_T")


class _Stopped(Exception):  # noqa: N818 - not a fault
    """Somebody wants the process to end."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass over everything."""

    rows: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Patrol:
    """Walks until it is told to stop.

    Args:
        walk: goes over everything.
        inquiry: looks into suspects.
        pipeline: says how far everybody is.
        follower: reads the channels' topics.
        policies: reads the channels.
        redis: takes the figures, a client with `decode_responses=False`.
        health: of the process.
        stopping: is set when the process is to end.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        walk: Walk,
        inquiry: Inquiry,
        pipeline: Pipeline,
        follower: Follower,
        policies: Callable[[], Sequence[ChannelPolicy]],
        redis: Redis,
        health: Health,
        stopping: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._walk = walk
        self._inquiry = inquiry
        self._pipeline = pipeline
        self._follower = follower
        self._policies = policies
        self._redis = redis
        self._health = health
        self._stopping = stopping
        self._clock = clock
        self._last = Pass()
        self._passes = 0
        self._stepped = self._reported = self._said = clock()
        self._outage: str | None = None
        self._stuck: str | None = None
        self._blind_since: datetime | None = None

    def run(self) -> None:
        """Walk until `stopping` is set.

        Raises:
            AuditError: Postgres refuses, or the auditor's own file cannot be used.
        """
        try:
            self._until_it_works(self._catch_up)
            self._health.started()
            while True:
                self._last = self._until_it_works(self._pass)
                self._passes += 1
                self._inquiry.again()
                log.info("pass", **self.figures())
        except _Stopped:
            log.info("auditor stopped")

    def figures(self) -> dict[str, object]:
        """How the audit stands, as JSON has it."""
        found = self._inquiry.figures
        return {
            "passes": self._passes,
            "rows": self._last.rows,
            "pass_seconds": round(self._last.seconds, 1),
            "pass_cpu_seconds": round(self._last.cpu_seconds, 2),
            "drift": self._inquiry.drift,
            "drifted": found.drifted,
            "healed": found.healed,
            "ghosts": found.ghosts,
            "suspects": self._inquiry.suspects,
            "waits_for": self._inquiry.waits_for,
            "blind": self._blind(),
            "blind_since": None if self._blind_since is None else self._blind_since.isoformat(),
        }

    def _blind(self) -> str | None:
        """Why the auditor cannot say anything now; the same keeps it from being ready."""
        return self._outage or self._stuck or self._overdue()

    def _overdue(self) -> str | None:
        waited = self._inquiry.waited
        if waited <= BLIND_SECONDS:
            return None
        return (
            f"{self._inquiry.suspects} suspects wait, some for {waited:.0f} s, for "
            f"{self._inquiry.waits_for}"
        )

    def _catch_up(self) -> None:
        """Read what the channels were told, so that not everything is suspect."""
        policies = self._policies()
        self._follow(policies)
        topics = [policy.topic for policy in policies]
        ends = self._pipeline.published(topics)
        while (unread := self._pipeline.unread(ends)) is not None:
            self._health.problem(STARTED, f"waits for {unread}")
            self._rest(0.1)

    def _pass(self) -> Pass:
        began, cpu, rows = self._clock(), time.process_time(), 0
        due = began
        for step in self._walk.steps():
            rows += step.rows
            self._take(step)
            due += step.rows / _ROWS_PER_SECOND + step.keys / _KEYS_PER_SECOND
            # Time that was lost is not made up for in a rush.
            due = max(due, self._clock())
            self._rest(due - self._clock())
            # All that a pass asks has answered: it need not end first.
            self._works()
        found = Pass(rows, self._clock() - began, time.process_time() - cpu)
        self._rest(began + _SHORTEST_PASS - self._clock())
        return found

    def _take(self, step: Step) -> None:
        if step.policies is not None:
            self._follow(step.policies)
        self._inquiry.suspect(step.suspects)

    def _follow(self, policies: Sequence[ChannelPolicy]) -> None:
        self._follower.follow({policy.topic: policy.kind for policy in policies})

    def _rest(self, seconds: float) -> None:
        """Give others the time, and look into suspects meanwhile."""
        until = self._clock() + seconds
        while True:
            self._turn()
            left = until - self._clock()
            if self._stopping.wait(min(max(0.0, left), _BETWEEN_STEPS)):
                raise _Stopped
            if left <= 0:
                return

    def _turn(self) -> None:
        self._health.turn()
        now = self._clock()
        if now - self._stepped >= _BETWEEN_STEPS:
            self._step()
            self._stepped = self._clock()
        if now - self._reported >= _BETWEEN_REPORTS:
            self._report()
            self._reported = self._clock()

    def _step(self) -> None:
        """An outage of who is asked here does not hold up the walk."""
        try:
            self._inquiry.step()
        except Outage as exc:
            self._stuck = str(exc)
        else:
            self._stuck = None
        self._health.problem("suspects", self._stuck)

    def _report(self) -> None:
        blind = self._blind()
        if blind is None:
            self._blind_since = None
        elif self._blind_since is None:
            self._blind_since = datetime.now(UTC)
        figures = self.figures()
        self._health.facts(**figures)
        left = self._inquiry.left
        example = next((case for case in left.values()), None)
        self._health.problem(
            "drift",
            None
            if example is None
            else f"{len(left)} SKUs drift again and again, such as {example.sku!r} "
            f"({'; '.join(described(example))}): look at `stockwire explain`",
        )
        self._health.problem("blind", None if self._stuck else self._overdue())
        self._say_waiting()
        with redis_outages():
            figures["at"] = datetime.now(UTC).isoformat()
            self._redis.set(AUDIT_KEY, orjson.dumps(figures))

    def _say_waiting(self) -> None:
        waited, now = self._inquiry.waited, self._clock()
        if waited > _PATIENCE and now - self._said > _PATIENCE:
            log.warning(
                "suspects cannot be judged yet",
                waits_for=self._inquiry.waits_for,
                seconds=round(waited),
            )
            self._said = now

    def _until_it_works(self, work: Callable[[], _T]) -> _T:
        while True:
            try:
                done = work()
            except Outage as exc:
                self._outage = str(exc)
                self._health.problem("outage", self._outage)
                log.warning("the auditor waits", reason=self._outage)
                self._health.turn()
                # Figures that are not told any more would look like those of a dead auditor.
                with suppress(Outage):
                    self._report()
                if self._stopping.wait(_RETRY_SECONDS):
                    raise _Stopped from None
            else:
                self._works()
                return done

    def _works(self) -> None:
        self._outage = None
        self._health.problem("outage", None)
