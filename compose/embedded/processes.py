"""Which processes are this stack's, whoever their parent is now, and how to end them."""

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from compose.embedded.places import Places
from compose.embedded.supervisord import Supervisor, config_path

#: Servers that write their title over their environment.
_UNMARKED = frozenset({"postgres", "redis-server", "valkey-server"})


def find(at: Places, postgres_data: Path) -> list[psutil.Process]:
    """Every living process of the stack, supervisord and orphans included.

    No pid file is believed: a pid may have been given to somebody else since. supervisord is
    known by its configuration file; its children by the socket it names in their environment;
    Postgres and Redis, which overwrite theirs, by their working directory.
    """
    config, url = str(config_path(at)), Supervisor(at).server_url
    data = {str(postgres_data.resolve()), str(at.data / "redis")}
    return [p for p in psutil.process_iter() if _ours(p, config, url, data)]


def _ours(process: psutil.Process, config: str, url: str, data: set[str]) -> bool:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        command = process.cmdline()
        if config in command and "supervisor.supervisord" in command:
            return True
        if process.environ().get("SUPERVISOR_SERVER_URL") == url:
            return True
        # By name too: a shell that somebody left in the directory is none of ours.
        return process.name() in _UNMARKED and process.cwd().removesuffix(" (deleted)") in data
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def end(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Ask them to stop, kill what is left after `seconds`; returns what even that did not end."""
    asked = list(processes)
    for process in asked:
        # SIGINT is Postgres's fast shutdown; at SIGTERM it would wait for its clients.
        send(process, signal.SIGINT if _name(process) == "postgres" else signal.SIGTERM)
    left = wait(asked, seconds)
    for process in left:
        send(process, signal.SIGKILL)
    return wait(left, 5)


def wait(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for processes to end by themselves; returns those that have not."""
    deadline = time.monotonic() + seconds
    left = [p for p in processes if _alive(p)]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [p for p in left if _alive(p)]
    return left


def send(process: psutil.Process, number: int) -> None:
    """Send a signal; a process that has gone meanwhile is what was wanted."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def resident_bytes(pid: int) -> int:
    """Memory of a process and its children, shared pages counted once where the system tells."""
    total = 0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
        except psutil.AccessDenied:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def holder_of(port: int) -> str | None:
    """Who listens on a TCP port; None where this user cannot see who does."""
    try:
        for connection in psutil.net_connections("tcp"):
            # (address, port); a plain index, for the type also allows an empty tuple.
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,):
                if connection.pid is None:
                    break
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:100]})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return None
    return None


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _alive(process: psutil.Process) -> bool:
    # A zombie holds nothing, and stays where nobody reaps orphans (a container's first process).
    # But a killed process shows as one as soon as its first thread has gone: until the last of
    # the others has, ports and locks are still held.
    try:
        if not process.is_running():
            return False
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False
