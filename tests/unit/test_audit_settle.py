"""An audit is repeated while changes are in flight, and never longer than allowed."""

import time

from audit.auditor import settle
from audit.report import AuditReport, PlaceReport


def report(drift: int) -> AuditReport:
    return AuditReport(5, 5, 0, (PlaceReport("redis stock", 5, drift, 0, ()),))


def test_the_first_report_without_drift_ends_it():
    drifts = iter([3, 1, 0, 9])
    assert settle(lambda: report(next(drifts)), time.monotonic() + 60).drift == 0
    assert next(drifts) == 9


def test_drift_that_stays_is_reported_at_the_deadline():
    deadline = time.monotonic() + 0.3
    assert settle(lambda: report(2), deadline).drift == 2
    assert time.monotonic() >= deadline


def test_without_patience_there_is_one_look():
    drifts = iter([2])
    assert settle(lambda: report(next(drifts)), time.monotonic()).drift == 2
