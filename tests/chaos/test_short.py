"""The short half of the faults, in `make test`."""

import zlib

import pytest

from tests.chaos.registry import FAULTS
from tests.chaos.runner import run_fault
from tests.chaos.world import SEED

SHORT = [fault for fault in FAULTS if fault.short]
pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name.replace(" ", "-"))
def test_nothing_is_lost_and_nothing_stale_is_left(world, results, fault):
    if why := fault.needs():
        results.skip(fault, why)
        pytest.skip(why)
    run_fault(world, fault, results, SEED + zlib.crc32(fault.name.encode()) % 1000)
