"""Workers that come and go, and servers that are away for long."""

import os
import signal
import subprocess
import sys
import time
from typing import IO

import psutil

from stream.worker import client_id
from tests.chaos.fault import Timeline
from tests.chaos.world import World
from tests.conftest import ROOT
from tests.polling import eventually

_EVERY_SECONDS = 5.0
_ROUNDS = 6
_AWAY_SECONDS = 120.0


def come_and_go(world: World, timeline: Timeline, agent: str) -> None:
    """A second worker joins and leaves every five seconds: by SIGTERM and by SIGKILL in turn."""
    timeline.inject()
    joined = 0
    for number in range(_ROUNDS):
        begun = time.monotonic()
        second = start_worker(world, agent)
        try:
            eventually(lambda p=second: client_id(agent, p.pid) in world.members(agent), timeout=30)
            joined += 1
            time.sleep(max(0.0, begun + _EVERY_SECONDS - time.monotonic()))
            second.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
            second.wait(60)
        finally:
            second.kill()
            second.wait(10)
    timeline.heal()
    timeline.prove(joined == _ROUNDS, f"a second worker joined and left {joined} times")


def start_worker(
    world: World,
    agent: str,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    module: tuple[str, ...] = ("stream",),
) -> subprocess.Popen[bytes]:
    """One more worker, beside the supervised one and configured as it is."""
    born = psutil.Process(world.process(agent).pid).environ()
    environment = {name: value for name, value in born.items() if name.startswith("STOCKWIRE_")}
    # The supervised one answers there.
    environment.pop("STOCKWIRE_HEALTH_PORT", None)
    return subprocess.Popen(
        [sys.executable, "-m", *module, agent],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SUPERVISOR_PROCESS_NAME": agent, **environment},
        stdout=stdout,
        stderr=subprocess.STDOUT,
    )


def away(world: World, timeline: Timeline, part: str) -> None:
    """A part is stopped for two minutes, and started again."""
    timeline.inject()
    world.stack.stop_part(part)
    timeline.prove(world.pid(part) is None, f"{part} did not run")
    time.sleep(_AWAY_SECONDS)  # The outage is the fault itself.
    timeline.prove(world.pid(part) is None, f"for {_AWAY_SECONDS:.0f} s")
    world.stack.start_part(part)
    timeline.heal()
