"""One fault from beginning to end: sell, break, heal, come to rest, check."""

import time
import zlib
from collections.abc import Iterable
from statistics import median

import pytest

from audit.continuous.repair import repair
from tests.chaos.checks import Since, broken_invariants
from tests.chaos.fault import Fault, Timeline
from tests.chaos.results import Results
from tests.chaos.sales import Sales
from tests.chaos.world import SEED, SKUS, Watched

RATE = 300.0
#: Seconds of ordinary sales before the fault and after it is over.
_BEFORE = 2.0
_AFTER = 2.0
_FRESH_BEFORE_SECONDS = 90.0
_HEAL_SECONDS = 60.0


def each_of(faults: Iterable[Fault]) -> pytest.MarkDecorator:
    """Run a test with each of these as its `fault`."""
    return pytest.mark.parametrize(
        "fault", list(faults), ids=lambda fault: fault.name.replace(" ", "-")
    )


def run_fault(world: Watched, fault: Fault, results: Results) -> None:
    """Run it, keep what was found, and fail if anything does not hold.

    Raises:
        NoProof: nothing shows that the fault has happened.
        AssertionError: an invariant does not hold.
        TooLong: something hangs.
    """
    if why := fault.needs():
        results.skip(fault, why)
        pytest.skip(why)
    facts: dict[str, object] = {"seed": SEED + zlib.crc32(fault.name.encode()) % 1000}
    failures: list[str] = []
    try:
        _begin_whole(world, facts, failures)
        _break(world, fault, facts, failures)
    except Exception as exc:
        # The table tells of this one as well, and others come after it.
        results.keep(fault, facts, [*failures, f"{type(exc).__name__}: {exc}"])
        raise
    finally:
        if fault.tidy is not None:
            fault.tidy(world)
            world.probe.wait_until_fresh(fault.patience)
    results.keep(fault, facts, failures)
    assert not failures, "\n".join(failures)


def _begin_whole(world: Watched, facts: dict[str, object], failures: list[str]) -> None:
    """What one fault has left behind must not be laid at the next one's door, nor stop it."""
    world.mend()
    assert world.probe.wait_until_fresh(_FRESH_BEFORE_SECONDS), "not fresh before the fault"
    with world.probe.at_rest():
        inherited = world.auditor.audit_until_settled(_FRESH_BEFORE_SECONDS)
        facts["inherited"] = inherited.drift
        if not inherited.drift:
            return
        # As `stockwire audit --once --heal` does.
        repair(world.settings, world.auditor)
        left = world.auditor.audit_until_settled(_HEAL_SECONDS)
    if left.drift:
        failures.append(
            f"{left.drift} of {inherited.drift} differences were there before the fault"
        )


def _break(world: Watched, fault: Fault, facts: dict[str, object], failures: list[str]) -> None:
    """Sell, break, heal, come to rest, check."""
    since, timeline = Since(world), Timeline()
    sales = Sales(world.settings.conninfo(), int(str(facts["seed"])), SKUS, RATE)
    world.sales = sales
    sales.start()
    try:
        time.sleep(_BEFORE)  # Sales must be under way when it breaks, and go on afterwards.
        fault.run(world, timeline)
        if not world.probe.wait_until_fresh(fault.patience, steady=_AFTER):
            failures.append(f"not fresh again within {fault.patience:.0f} s")
        ended = time.monotonic()
        if fault.then is not None:
            fault.then(world, timeline)
    finally:
        books = sales.finish()
    after = {
        "fresh_after_heal": _after(world, timeline.healed, timeline.injected),
        "fresh_after_fault": _after(world, timeline.injected, timeline.injected),
        "p50_ms": _p50(world, ended - _AFTER),
    }
    with world.probe.at_rest():
        failures += broken_invariants(world, fault, books, since, facts)
    facts |= after
    facts |= {
        "proof": "; ".join(timeline.proof),
        "broken_seconds": round(timeline.healed - timeline.injected, 1),
        "changes": books.changes,
        "reconnects": books.reconnects,
    }


def _after(world: Watched, moment: float, injected: float) -> dict[str, float | None]:
    """By place, seconds from a moment until it was fresh for good; None if it always was."""
    return {
        place: None if at is None else round(max(0.0, at - moment), 1)
        for place, at in world.probe.last_stale(injected).items()
    }


def _p50(world: Watched, since: float) -> int | None:
    found = world.probe.latencies(since)
    return round(median(found) * 1000) if found else None
