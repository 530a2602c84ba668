"""The short half of the faults, in `make test`."""

import pytest

from tests.chaos.registry import FAULTS
from tests.chaos.runner import each_of, run_fault

pytestmark = pytest.mark.e2e


@each_of(fault for fault in FAULTS if fault.short)
def test_nothing_is_lost_and_nothing_stale_is_left(world, results, fault):
    run_fault(world, fault, results)
