"""Whether clocks agree, and what each process says of itself."""

from guard.facts import Facts, Unread
from guard.finding import Finding, critical, ok, warning
from inventory.groups import READS

#: Seconds by which two clocks may differ before times that are compared mislead.
SKEW_WARNING, SKEW_CRITICAL = 2.0, 60.0


def clocks(facts: Facts) -> list[Finding]:
    """Postgres, Redis and this machine agree on the time."""
    skews = {
        name: part.skew
        for name, part in (("postgres", facts.postgres), ("redis", facts.redis))
        if not isinstance(part, Unread)
    }
    found = []
    for name, skew in skews.items():
        if abs(skew) <= SKEW_WARNING:
            continue
        direction = "ahead of" if skew > 0 else "behind"
        make = critical if abs(skew) > SKEW_CRITICAL else warning
        found.append(
            make(
                "clock",
                f"{name}'s clock is {abs(skew):.1f} s {direction} this machine's",
                "freshness and message versions are computed from it: they mislead",
                "let NTP set both clocks (timedatectl, chronyc tracking)",
            )
        )
    if found or not skews:
        return found
    return [ok("clock", f"{' and '.join(skews)} agree with this machine's")]


def _mend_hanging(name: str) -> str:
    if name in READS:
        return "its watchdog ends it, and it starts again by itself"
    return "end it (kill -9, make status says its pid), and it starts again by itself"


def health(facts: Facts) -> list[Finding]:
    """Each process lives and is ready."""
    found = []
    for name, process in facts.processes.items():
        logs = f"stockwire logs {name}"
        if isinstance(process, Unread):
            found.append(
                warning(
                    name,
                    process.why,
                    "it does not run, or hangs",
                    f"{logs}; then make up",
                )
            )
            continue
        reasons = "; ".join(f"{check}: {why}" for check, why in process.reasons.items())
        if not process.live:
            found.append(
                critical(
                    name,
                    f"it hangs ({reasons})",
                    "its work stands still",
                    f"{logs}; {_mend_hanging(name)}",
                )
            )
        elif not process.ready:
            found.append(warning(name, f"not ready: {reasons}", "its work waits", logs))
        else:
            found.append(ok(name, "live and ready"))
    return found
