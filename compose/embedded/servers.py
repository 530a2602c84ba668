"""Starting servers, and waiting until they do their work."""

import time
from collections.abc import Callable, Mapping

from compose.embedded.part import NotAnswering, Part
from compose.embedded.places import Places
from compose.embedded.supervisord import Supervisor
from inventory.errors import StackError

#: Told what happens, one short line at a time.
Say = Callable[[str], None]

_POLL_SECONDS = 0.1


def trouble(server: Part) -> str | None:
    """What a server was asked in vain; None when it answers."""
    try:
        server.check()
    except NotAnswering as exc:
        return str(exc)
    return None


def start_all(
    at: Places, supervisor: Supervisor, servers: Mapping[str, Part], deadline: float, say: Say
) -> None:
    """Start every server that is down, Connect once Kafka answers, the others at the same time.

    Raises:
        StackError: one has not answered when the monotonic clock reaches `deadline`.
    """
    waiting = {name: server for name, server in servers.items() if name != "connect"}
    for name in waiting:
        supervisor.start_program(name)
    while waiting:
        for name, server in list(waiting.items()):
            if not _answers(at, supervisor, server, deadline):
                continue
            say(f"{name} answers")
            del waiting[name]
            if name == "kafka":
                supervisor.start_program("connect")
                waiting["connect"] = servers["connect"]
        if waiting:
            time.sleep(_POLL_SECONDS)


def start_one(at: Places, supervisor: Supervisor, server: Part, deadline: float) -> None:
    """Start a server and wait until it answers.

    Raises:
        StackError: it has not when the monotonic clock reaches `deadline`.
    """
    supervisor.start_program(server.name)
    while not _answers(at, supervisor, server, deadline):
        time.sleep(_POLL_SECONDS)


def log_tail(at: Places, part: str, lines: int = 20) -> str:
    """The last lines of a part's log; empty when it has none."""
    try:
        text = (at.log / f"{part}.log").read_text(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _answers(at: Places, supervisor: Supervisor, server: Part, deadline: float) -> bool:
    awaited = trouble(server)
    if awaited is None:
        return True
    fatal = supervisor.states()[server.name].state == "FATAL"
    if fatal or time.monotonic() > deadline:
        what = "ends as soon as it is started" if fatal else "does not answer in time"
        raise StackError(
            f"{server.name} {what}; awaited: {awaited}. The end of "
            f"{at.log / f'{server.name}.log'}:\n{log_tail(at, server.name)}"
        )
    return False
