"""What must be right before a server is started, each with a sentence when it is not."""

import errno
import shutil
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from compose.embedded.places import HOST, SETTING_OF, Ports
from compose.embedded.processes import holder_of
from inventory.errors import StackError

_GIB = 1024**3

#: Below this, Kafka and Postgres would soon stop in the middle of a write.
FREE_BYTES = 1 * _GIB

# What was killed holds its ports until its last thread is gone; then nobody can tell whose it is.
_DYING_SECONDS = 5.0
_POLL_SECONDS = 0.05


def check_ports(ports: Ports, parts: Iterable[str]) -> None:
    """Every port of these parts is free.

    Raises:
        StackError: one is taken.
    """
    for part in parts:
        for port in ports.of(part):
            trouble, holder = _wait_for_the_dying(port)
            if trouble == errno.EADDRINUSE:
                beside = " (one above the broker's)" if port == ports.controller else ""
                raise StackError(
                    f"Port {port}{beside}, where {part} would listen, is held by "
                    f"{holder or 'a process that this user cannot see'}; stop it, or set "
                    f"{SETTING_OF[part]} to another port."
                )
            if trouble is not None:
                raise StackError(
                    f"{part} cannot listen on port {port} ({errno.errorcode[trouble]}); set "
                    f"{SETTING_OF[part]} to another port."
                )


def check_disk(directory: Path) -> None:
    """There is room for data.

    Raises:
        StackError: less than 1 GiB is free.
    """
    free = shutil.disk_usage(directory).free
    if free < FREE_BYTES:
        raise StackError(
            f"Only {free / _GIB:.1f} GiB are free where {directory} lies, and the stack needs "
            f"{FREE_BYTES / _GIB:.0f} GiB; free some space, or move STOCKWIRE_STACK_DIR."
        )


def _wait_for_the_dying(port: int) -> tuple[int | None, str | None]:
    """Why a port cannot be had, and who has it as far as one can see."""
    deadline = time.monotonic() + _DYING_SECONDS
    while True:
        trouble = _bind_error(port)
        holder = holder_of(port) if trouble == errno.EADDRINUSE else None
        seen = trouble != errno.EADDRINUSE or holder is not None
        if seen or time.monotonic() > deadline:
            return trouble, holder
        time.sleep(_POLL_SECONDS)


def _bind_error(port: int) -> int | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        # As the servers do themselves: connections that linger after a stop are no obstacle.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
            server.listen(1)
        except OSError as exc:
            return exc.errno
    return None
