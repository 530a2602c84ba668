"""The watchdog ends its process, says why, and leaves a healthy one alone."""

import asyncio
import json
import subprocess
import sys
import time

import pytest

from health import Health
from stream.watchdog import ASSIGNED, STALLED, WATCHDOG, KafkaOffsets, Watchdog, pulse
from tests.polling import eventually
from tests.unit import stalling
from tests.unit.test_health import free_port


def stall(how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.unit.stalling", how],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("how", "reason", "where"),
    [
        ("stuck", "6 records wait, and partition 0 of t has not moved", "in stuck_agent"),
        ("blocked", "the event loop has not turned", "in block"),
        ("endless", "it has been stopping for 1 s", "in stuck_agent"),
    ],
)
def test_a_stalled_process_ends_itself_and_says_where_it_was(how: str, reason: str, where: str):
    began = time.monotonic()
    done = stall(how)
    assert done.returncode == STALLED == 75
    assert time.monotonic() - began < 30
    [line] = [line for line in done.stderr.splitlines() if "worker stalled" in line]
    event = json.loads(line)
    assert event["level"] == "critical"
    assert event["reason"].startswith(reason)
    if how != "endless":
        assert event["facts"]["lag"] == (6 if how == "stuck" else 0)
    assert where in done.stderr
    assert "Task the agent waits in:" in done.stderr or how == "blocked"
    assert "most recent call first" in done.stderr  # every thread's stack
    assert 'stalling.py", line' in done.stderr


def test_a_healthy_process_is_left_alone():
    done = stall("healthy")
    assert (done.returncode, done.stderr) == (0, "")
    assert "still here Verdict(ok=True" in done.stdout
    assert "'lag': 0" in done.stdout


class Broken:
    """Offsets that fail in a way nobody thought of."""

    closed = False

    def read(self, held, confirmed):
        raise RuntimeError("no such thing")

    def close(self):
        self.closed = True


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_watchdog_that_fails_is_seen():
    async def scenario() -> None:
        health, offsets = Health("x"), Broken()
        watchdog = Watchdog(health, lambda: set(), dict, lambda: False, offsets, stalling.LIMIT)
        with watchdog.watching():
            reason = eventually(lambda: health.ready().reasons.get(WATCHDOG))
        assert "no such thing" in reason
        assert offsets.closed

    asyncio.run(scenario())


def test_the_pulse_turns_and_says_what_is_held():
    async def scenario() -> None:
        health = Health("x", turn_limit=0.6)
        health.started()
        held: list[set | None] = [None]
        beating = asyncio.create_task(pulse(health, lambda: held[0]))
        async with asyncio.timeout(20):
            while "handed out" not in health.ready().reasons.get(ASSIGNED, ""):
                await asyncio.sleep(0.01)
            held[0] = {("t", 1), ("t", 0), ("u", 1)}
            while not health.ready().ok:
                await asyncio.sleep(0.01)
        assert health.ready().facts["partitions"] == [0, 1]
        turned = health.turned
        async with asyncio.timeout(20):
            while health.turned == turned:
                await asyncio.sleep(0.01)
        beating.cancel()

    asyncio.run(scenario())


@pytest.mark.parametrize("held", [set(), {("t", 0)}])
@pytest.mark.parametrize("confirmed", [{}, {("t", 0): 1}])
def test_a_kafka_that_does_not_answer_is_no_offset(held: set, confirmed: dict):
    offsets = KafkaOffsets(f"127.0.0.1:{free_port()}", "x", "g")
    assert offsets.read(held, confirmed) is None
    offsets.close()
