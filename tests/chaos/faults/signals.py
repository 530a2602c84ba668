"""Processes that die at once, and processes that stand still and come back."""

import signal
import time

import psutil

from stream.worker import AGENTS, client_id
from tests.chaos.fault import Timeline
from tests.chaos.world import World
from tests.polling import eventually

#: Past the workers' session timeout of 6 s, with time for the group to notice.
_STANDSTILL = 10.0


def kill(world: World, timeline: Timeline, part: str) -> None:
    """Kill -9; supervisord starts the part again."""
    before = world.process(part)
    timeline.inject()
    world.stack.kill(part, signal.SIGKILL)
    now = eventually(lambda: (pid := world.pid(part)) and pid != before.pid and pid)
    timeline.prove(not before.is_running() or before.status() == "zombie", f"pid {before.pid} died")
    timeline.prove(now != before.pid, f"supervisord started pid {now}")
    eventually(lambda: world.answers(part), timeout=120)
    timeline.heal()


def freeze(world: World, timeline: Timeline, part: str) -> None:
    """SIGSTOP for longer than a session lasts, then SIGCONT; children included."""
    main = world.process(part)
    family = [main, *main.children(recursive=True)]
    timeline.inject()
    _send(family, signal.SIGSTOP)
    try:
        eventually(lambda: main.status() == psutil.STATUS_STOPPED, timeout=5)
        if part in AGENTS:
            eventually(lambda: client_id(part, main.pid) not in world.members(part), timeout=30)
            timeline.prove(True, f"the group of {part} went on without it")
        held = time.monotonic() - timeline.injected
        time.sleep(max(0.0, _STANDSTILL - held))  # The standstill is the fault itself.
        timeline.prove(main.status() == psutil.STATUS_STOPPED, f"pid {main.pid} stood still")
    finally:
        _send(family, signal.SIGCONT)
    timeline.heal()


def _send(family: list[psutil.Process], number: int) -> None:
    for process in family:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
