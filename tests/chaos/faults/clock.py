"""A worker whose clock is wrong.

Python's clock alone: under libfaketime librdkafka stands still, because its waits for a condition
until a point in time (C11's `cnd_timedwait`) are left to the kernel, which knows the right time.
"""

import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from stream.worker import client_id
from tests.chaos.fault import Timeline
from tests.chaos.faults.members import start_worker
from tests.chaos.world import World
from tests.polling import eventually

_WRONG_FOR = 8.0


def wrong_clock(world: World, timeline: Timeline, agent: str, hours: int) -> None:
    """The supervised worker makes room for one whose clock is hours off, and comes back."""
    log = world.stack.places.temporary / "wrong-clock.log"
    timeline.inject()
    pid = world.process(agent).pid
    with log.open("wb") as out:
        module = ("tests.chaos.wrong_clock", str(hours * 3600))
        second = start_worker(world, agent, stdout=out, module=module)
        try:
            world.stack.stop_part(agent)
            eventually(lambda: client_id(agent, second.pid) in world.members(agent))
            time.sleep(_WRONG_FOR)  # It works alone, with the wrong time.
            off = _clock_in(log) - datetime.now(UTC)
            timeline.prove(
                abs(off - timedelta(hours=hours)) < timedelta(minutes=5),
                f"pid {second.pid} instead of {pid} saw {off.total_seconds() / 3600:+.1f} h",
            )
            timeline.prove(second.poll() is None, "and worked")
        finally:
            _end(second)
            world.stack.start_part(agent)
    timeline.heal()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(60)
    finally:
        process.kill()
        process.wait(10)


def _clock_in(log: Path) -> datetime:
    lines = [line for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    return datetime.fromisoformat(orjson.loads(lines[-1])["timestamp"])
