"""Ten minutes in which nothing is broken: no detector may say otherwise."""

import os
import time

import orjson
import pytest

from tests.chaos.sales import Sales
from tests.chaos.world import SKUS

pytestmark = pytest.mark.e2e

_MINUTES = float(os.environ.get("CHAOS_QUIET_MINUTES", "10"))
_RATE = 300
_LOUD = ("warning", "error", "critical")
_SERVERS = frozenset({"postgres", "redis", "kafka", "connect"})
_LOOK_SECONDS = 1.0


def test_no_detector_fires_while_nothing_is_wrong(world, results):
    assert world.probe.wait_until_fresh(120)
    ours = [part for part in world.stack.parts if part not in _SERVERS]
    pids = {part: world.pid(part) for part in world.stack.parts}
    logs = {part: world.log_size(part) for part in ours}
    sales = Sales(world.settings.conninfo(), 1, SKUS, _RATE)
    sales.start()
    begun = time.monotonic()
    try:
        while time.monotonic() - begun < _MINUTES * 60:
            assert world.connector_runs()
            time.sleep(_LOOK_SECONDS)  # Ten minutes of nothing is what is looked at.
        stale = world.probe.last_stale(begun)
    finally:
        sales.finish()
    said = [line for part in ours for line in loud_lines(world.stack.log_path(part), logs[part])]
    results.figure(
        "quiet",
        {
            "minutes": _MINUTES,
            "said": len(said),
            "stale": {k: v is not None for k, v in stale.items()},
        },
    )
    assert {part: world.pid(part) for part in world.stack.parts} == pids
    assert said == []


def loud_lines(log, since):
    """Lines of one of our processes above the level `info`, from a position of its log on."""
    with log.open("rb") as file:
        file.seek(since if since <= log.stat().st_size else 0)
        lines = [orjson.loads(line) for line in file if line.startswith(b"{")]
    return [line for line in lines if line.get("level") in _LOUD]
