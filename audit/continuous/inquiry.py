"""From a suspicion to drift, and from drift to health: step by step, and never two at a time."""

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from audit.continuous.flight import Flight, Pipeline
from audit.continuous.judge import Case, Verdict
from inventory.policy import ChannelPolicy

log = structlog.stdlib.get_logger(__name__)

#: SKUs that are asked about together; as many as go into one signal.
_TOGETHER = 100
#: Suspects that are remembered; the next pass finds the others again.
_MOST_SUSPECTS = 10_000
#: SKUs whose heals are remembered.
_MOST_REMEMBERED = 10_000
#: So often a SKU is healed, and then left to a person.
HEALS = 3
#: A SKU that was sound for so many seconds, and in the pass that ended then, begins anew: months
#: later its drift is another one. One that comes back earlier flaps. A pass that met more suspects
#: than are remembered proves nothing of those that it did not name.
HELD_SECONDS = 3600.0
#: What a repair may take, in seconds, before it is looked into again.
_HEAL_SECONDS = 60.0


class Judging(Protocol):
    """As `audit.continuous.judge.Judge`."""

    def look(self, skus: Iterable[str]) -> Verdict:
        """Compare these SKUs with everything."""
        ...


class Healing(Protocol):
    """As `audit.continuous.heal.Healer`."""

    def heal(self, cases: Sequence[Case], policies: Iterable[ChannelPolicy]) -> None:
        """Have these SKUs sent again."""
        ...


#: The places that differ for a reason of their own, of these channels.
Unsettled = Callable[[Sequence[ChannelPolicy]], Mapping[str, str]]


@dataclass(slots=True)
class Figures:
    """What was found since the start; SKUs, where nothing else is said.

    Attributes:
        ghosts: of `healed`, those that were somewhere and not in Postgres.
    """

    drifted: int = 0
    healed: int = 0
    ghosts: int = 0


@dataclass(slots=True)
class _Batch:
    """Suspects that differ, until what was in flight has landed."""

    cases: Mapping[str, Case]
    flight: Flight
    since: float


@dataclass(slots=True)
class _Repair:
    """What was sent again."""

    cases: dict[str, Case]
    until: float


@dataclass(slots=True)
class _Memory:
    """How often each SKU was healed and when it was last known to drift, the latest at the end."""

    heals: OrderedDict[str, tuple[int, float]] = field(default_factory=OrderedDict)

    def of(self, sku: str) -> int:
        return self.heals.get(sku, (0, 0.0))[0]

    def note(self, sku: str, now: float, heals: int, keep: Collection[str]) -> None:
        """So many heals more, or none: it drifts all the same. Some are never forgotten."""
        self.heals[sku] = (self.of(sku) + heals, now)
        self.heals.move_to_end(sku)
        if len(self.heals) > _MOST_REMEMBERED:
            del self.heals[next((old for old in self.heals if old not in keep), sku)]

    def fade(self, before: float, keep: Collection[str]) -> None:
        """Forget those that have not drifted since, but for some."""
        old = itertools.takewhile(lambda item: item[1][1] < before, self.heals.items())
        for sku in [sku for sku, _ in old if sku not in keep]:
            del self.heals[sku]


class Inquiry:
    """Looks into suspects.

    Args:
        judge: compares exactly.
        healer: mends; None only reports.
        pipeline: says what is still in flight.
        unsettled: says what is about to change anyway.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        judge: Judging,
        healer: Healing | None,
        pipeline: Pipeline,
        unsettled: Unsettled,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._judge = judge
        self._healer = healer
        self._pipeline = pipeline
        self._unsettled = unsettled
        self._clock = clock
        self._pending: dict[str, None] = {}
        self._batch: _Batch | None = None
        self._repair: _Repair | None = None
        self._memory = _Memory()
        self._left: dict[str, Case] = {}
        #: Since the last pass ended, there was no place for some suspects.
        self._dropped = False
        self.figures = Figures()

    def suspect(self, skus: Iterable[str]) -> None:
        """Look into these as well."""
        for sku in skus:
            if len(self._pending) >= _MOST_SUSPECTS and sku not in self._pending:
                self._dropped = True
                return
            self._pending[sku] = None

    @property
    def suspects(self) -> int:
        """SKUs that differ, or may, and of which nothing is known yet."""
        return len(self._pending) + (0 if self._batch is None else len(self._batch.cases))

    @property
    def drift(self) -> int:
        """SKUs that are known to drift now."""
        return len(self._left) + (0 if self._repair is None else len(self._repair.cases))

    @property
    def left(self) -> Mapping[str, Case]:
        """SKUs that drift and are not healed any more."""
        return self._left

    @property
    def waits_for(self) -> str | None:
        """What must arrive before the suspects can be judged."""
        return None if self._batch is None else self._batch.flight.waits_for

    @property
    def waited(self) -> float:
        """For how many seconds the suspects of now could not be judged."""
        return 0.0 if self._batch is None else self._clock() - self._batch.since

    def step(self) -> None:
        """Go on as far as that needs no waiting.

        Raises:
            Outage: somebody does not answer; the next step tries again.
        """
        if self._repair is not None:
            self._look_at_repair(self._repair)
        elif self._batch is not None:
            if self._batch.flight.landed():
                self._conclude(self._batch)
        elif self._pending:
            self._begin()

    def again(self) -> None:
        """A pass has ended: look again at what is left to people, who may have mended it."""
        unsure = {*self._left, *self._pending}
        for cases in (self._batch, self._repair):
            unsure |= set() if cases is None else cases.cases.keys()
        if not self._dropped:
            self._memory.fade(self._clock() - HELD_SECONDS, unsure)
        self._dropped = False
        self.suspect(self._left)

    def _begin(self) -> None:
        some = [*self._pending][:_TOGETHER]
        verdict = self._judge.look(some)
        cases = self._judged(verdict)
        for sku in some:
            self._pending.pop(sku, None)
            if sku not in cases and sku not in verdict.moving:
                self._left.pop(sku, None)
        if cases:
            topics = {policy.topic for policy in verdict.policies}
            flight = Flight(self._pipeline, verdict.now_us, sorted(topics))
            self._batch = _Batch(cases, flight, self._clock())

    def _conclude(self, batch: _Batch) -> None:
        verdict = self._judge.look(batch.cases)
        now = self._judged(verdict)
        drifting = [
            case
            for sku, earlier in batch.cases.items()
            if (case := _same(earlier, now.get(sku))) is not None
        ]
        give_up = [c for c in drifting if self._healer is None or self._memory.of(c.sku) >= HEALS]
        to_heal = [case for case in drifting if case not in give_up]
        if to_heal and self._healer is not None:
            # Where that fails, nothing has happened: the next step concludes the batch again.
            self._healer.heal(to_heal, verdict.policies)
        self._batch = None
        for sku in batch.cases.keys() - now.keys() - verdict.moving:
            self._left.pop(sku, None)
        self.figures.drifted += sum(case.sku not in self._left for case in drifting)
        for case in give_up:
            self._memory.note(case.sku, self._clock(), 0, self._left)
        self._leave(give_up)
        for case in to_heal:
            self._memory.note(case.sku, self._clock(), 1, self._left)
            log.warning("drift", sku=case.sku, differences=described(case))
        if to_heal:
            until = self._clock() + _HEAL_SECONDS
            self._repair = _Repair({case.sku: case for case in to_heal}, until)

    def _look_at_repair(self, repair: _Repair) -> None:
        verdict = self._judge.look(repair.cases)
        for sku, case in [*repair.cases.items()]:
            if sku in verdict.moving or _same(case, verdict.cases.get(sku)) is not None:
                continue
            del repair.cases[sku]
            self._left.pop(sku, None)
            self.figures.healed += 1
            self.figures.ghosts += any(d.expected is None for d in case.differences)
            log.info("drift healed", sku=sku, heals=self._memory.of(sku))
        if not repair.cases:
            self._repair = None
        elif self._clock() > repair.until:
            log.warning("drift is not healed yet", skus=len(repair.cases))
            self._repair = None
            self.suspect(repair.cases)

    def _judged(self, verdict: Verdict) -> dict[str, Case]:
        """The cases, but for what is about to change anyway."""
        if not verdict.cases:
            return {}
        places = self._unsettled(verdict.policies)
        return {
            sku: kept
            for sku, case in verdict.cases.items()
            if (kept := _without(case, places)) is not None
        }

    def _leave(self, cases: Collection[Case]) -> None:
        for case in cases:
            if case.sku not in self._left:
                log.error(
                    "drift comes back, and is left to a person",
                    sku=case.sku,
                    heals=self._memory.of(case.sku),
                    differences=described(case),
                )
            if len(self._left) < _MOST_REMEMBERED:
                self._left[case.sku] = case


def described(case: Case) -> list[str]:
    """The differences of a SKU, for people."""
    return [
        f"{d.place}{'' if d.warehouse is None else f' {d.warehouse}'}: expected "
        f"{'nothing' if d.expected is None else dict(d.expected)}, found "
        f"{'nothing' if d.found is None else dict(d.found)}"
        for d in case.differences
    ]


def _same(earlier: Case, later: Case | None) -> Case | None:
    """What of a case is still so, in the same versions; None if nothing is."""
    if later is None or later.versions != earlier.versions:
        return None
    before = {(d.place, d.warehouse) for d in earlier.differences}
    still = tuple(d for d in later.differences if (d.place, d.warehouse) in before)
    return later._replace(differences=still) if still else None


def _without(case: Case, places: Collection[str]) -> Case | None:
    still = tuple(d for d in case.differences if d.place not in places)
    return case._replace(differences=still) if still else None
