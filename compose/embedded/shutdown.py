"""Stopping everything, so that no process of the stack is left."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from compose.embedded import processes
from compose.embedded.places import Places
from compose.embedded.supervisord import UP, Supervisor, socket_path
from inventory.errors import StackError

_STOP_SECONDS = 45.0
# Without its supervisord, a Connect that has lost its broker would wait for it.
_LEFTOVER_SECONDS = 15.0
_POLL_SECONDS = 0.05


def stop_programs(supervisor: Supervisor, names: Iterable[str]) -> None:
    """Stop several programs at the same time, and wait for all."""
    wanted = set(names)
    for name in wanted:
        supervisor.stop_program(name, wait=False)
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        states = supervisor.states()
        if not any(states[name].state in UP for name in wanted if name in states):
            return
        time.sleep(_POLL_SECONDS)


def stop_everything(
    at: Places, supervisor: Supervisor, postgres_data: Path, workers: Iterable[str]
) -> None:
    """Stop the workers, Connect, then the rest, then supervisord, then what has no parent.

    Raises:
        StackError: a process does not even end when killed.
    """
    # Looked up first: a process on its way out no longer tells whose it is.
    ours = processes.find(at, postgres_data)
    if supervisor.running():
        stop_programs(supervisor, workers)
        stop_programs(supervisor, ["connect"])
        stop_programs(supervisor, ["kafka", "redis", "postgres"])
        supervisor.shutdown()
        processes.wait(ours, _STOP_SECONDS)
    _require_ended(processes.end(ours, _STOP_SECONDS))
    end_leftovers(at, postgres_data)
    socket = socket_path(at)
    if socket.parent != at.run:
        shutil.rmtree(socket.parent, ignore_errors=True)


def end_leftovers(at: Places, postgres_data: Path) -> bool:
    """End every process of the stack, and say whether there was one.

    After supervisord alone was killed, its children go on and hold ports and locks.

    Raises:
        StackError: a process does not even end when killed.
    """
    found = processes.find(at, postgres_data)
    left = processes.end(found, _LEFTOVER_SECONDS)
    # A supervisord that was still at work may have started another one meanwhile.
    left += processes.end(processes.find(at, postgres_data), _LEFTOVER_SECONDS)
    _require_ended(left)
    return bool(found)


def _require_ended(left: list[psutil.Process]) -> None:
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise StackError(f"Processes {pids} of the stack do not end; look at them with ps.")
