"""Ten minutes in which nothing is broken: no detector may say otherwise."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import quantiles

import orjson
import pytest

from compose.embedded.workers import WORKERS
from tests.chaos.sales import Sales
from tests.chaos.world import SKUS
from tests.conftest import ROOT
from tests.polling import eventually

pytestmark = pytest.mark.e2e

_MINUTES = float(os.environ.get("CHAOS_QUIET_MINUTES", "10"))
_RATE = 300
_LOUD = ("warning", "error", "critical")
_LOOK_SECONDS = 1.0
_DOCTOR_SECONDS = 55.0

#: For `tests.chaos.conftest`.
LONGEST_SECONDS = _MINUTES * 60 + 600


def test_no_detector_fires_while_nothing_is_wrong(world, results):
    assert world.probe.wait_until_fresh(120)
    eventually(lambda: not not_ready(world), timeout=120)
    pids = {part: world.pid(part) for part in world.stack.parts}
    logs = {part: world.log_size(part) for part in WORKERS}
    sales = Sales(world.settings.conninfo(), 1, SKUS, _RATE)
    sales.start()
    begun = time.monotonic()
    looks, unready, asked = 0, [], []
    try:
        # The doctor takes some seconds, in which the others are looked at all the same.
        with ThreadPoolExecutor(max_workers=1) as pool:
            while (past := time.monotonic() - begun) < _MINUTES * 60:
                if past >= len(asked) * _DOCTOR_SECONDS:
                    asked.append(pool.submit(doctor, world))
                assert world.connector_runs()
                unready += not_ready(world)
                looks += 1
                # Ten minutes of nothing is what is looked at.
                time.sleep(max(0.0, begun + past + _LOOK_SECONDS - time.monotonic()))
        findings = [finding for each in asked for finding in each.result()]
        stale = world.probe.last_stale(begun)
    finally:
        sales.finish()
    said = [line for part in WORKERS for line in loud_lines(world.stack.log_path(part), logs[part])]
    late = [
        f"{place} after {at - begun:.0f} s" for place, at in sorted(stale.items()) if at is not None
    ]
    waits = world.probe.latencies(begun)
    ended = [part for part in world.stack.parts if world.pid(part) != pids[part]]
    heard = [*said, *unready, *findings, *late, *ended]
    results.figure(
        "quiet",
        {
            "minutes": _MINUTES,
            "looks_at_readiness": looks,
            "not_ready": len(unready),
            "doctor_asked": len(asked),
            "findings": len(findings),
            "said": len(said),
            "stale": ", ".join(late) or "never",
            "p99_ms": round(quantiles(waits, n=100)[98] * 1000),
            "max_ms": round(max(waits) * 1000),
        },
        target="nothing of all this",
        met=not heard,
    )
    assert heard == []


def not_ready(world):
    """Which of our processes do not answer that they are ready, and why."""
    answers = {name: world.stack.ask(name) for name in WORKERS}
    return [
        f"{name}: {'no answer' if answer is None else answer.reason}"
        for name, answer in answers.items()
        if answer is None or not answer.ready
    ]


def doctor(world):
    """What `stockwire doctor` finds wrong."""
    result = subprocess.run(
        [sys.executable, "-c", "from cli.main import run; run()", "doctor", "--json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **world.stack.environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = [orjson.loads(line) for line in result.stdout.splitlines()]
    assert found, f"the doctor looked at nothing: {result.stderr}"
    wrong = [finding for finding in found if finding["severity"] != "ok"]
    assert bool(wrong) == bool(result.returncode), result
    return wrong


def loud_lines(log, since):
    """Lines of one of our processes above the level `info`, from a position of its log on."""
    with log.open("rb") as file:
        file.seek(since if since <= log.stat().st_size else 0)
        lines = [orjson.loads(line) for line in file if line.startswith(b"{")]
    return [line for line in lines if line.get("level") in _LOUD]
