"""What is found: what it is, why it matters, and the command that mends it."""

from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad; the value is the exit code of `stockwire doctor`."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: the part, e.g. slot.
        what: what was found, one clause.
        why: what follows from it; empty when all is well.
        mend: the command or the place that mends it; empty when all is well.
        check: that has found it, by which docs/runbook.md has an entry.
    """

    severity: Severity
    subject: str
    what: str
    why: str = ""
    mend: str = ""
    check: str = ""


def ok(subject: str, what: str) -> Finding:
    """All is well there."""
    return Finding(Severity.OK, subject, what)


def warning(subject: str, what: str, why: str, mend: str) -> Finding:
    """It works, and will not for ever or not under every fault."""
    return Finding(Severity.WARNING, subject, what, why, mend)


def critical(subject: str, what: str, why: str, mend: str) -> Finding:
    """Changes do not arrive, or will soon be lost."""
    return Finding(Severity.CRITICAL, subject, what, why, mend)


def worst(findings: list[Finding]) -> Severity:
    """The worst of them; OK when there are none."""
    return max((finding.severity for finding in findings), default=Severity.OK)
