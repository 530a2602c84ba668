"""supervisord: its configuration, and the conversation with it."""

import os
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import Faults, SupervisorTransport

from compose.embedded.places import Places
from inventory.errors import StackError
from inventory.settings import PREFIX

#: States of a supervised program, as supervisord names them.
UP = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})

# sun_path holds 108 bytes on Linux and 104 on macOS; supervisord binds `<path>.<pid>` first.
_SOCKET_PATH_BYTES = 90
_LOG_BYTES = "10MB"


@dataclass(frozen=True, slots=True)
class Program:
    """A supervised process.

    Attributes:
        directory: its working directory.
        environment: variables beside the few that every program gets.
        user: the account it runs as, None for supervisord's own.
        stop_seconds: how long it may take to stop before it is killed.
        start_seconds: how long it must live to count as started; a shorter life is retried,
            each time a second later, up to `backoff.LONGEST_PAUSE`.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 30
    start_seconds: int = 2
    start_retries: int = 5


@dataclass(frozen=True, slots=True)
class ProgramState:
    """What supervisord says of a program; `uptime` in seconds, `pid` 0 when it does not run."""

    state: str
    pid: int
    uptime: int


def socket_path(at: Places) -> Path:
    """The control socket: in `run/`, or under /tmp when that path is too long for a socket."""
    path = at.run / "supervisor.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        return path
    # Not TMPDIR: the next command must find it, whatever its shell says.
    return Path("/tmp") / f"stockwire-{os.getuid()}-{at.digest}" / "supervisor.sock"  # noqa: S108


def config_path(at: Places) -> Path:
    """The configuration; its path on a command line tells whose supervisord that is."""
    return at.run / "supervisord.conf"


def render(at: Places, programs: Iterable[Program]) -> str:
    """The configuration. It carries passwords in `environment`: keep it private."""
    socket = _escape(str(socket_path(at)))
    lines = [
        "[unix_http_server]",
        f"file={socket}",
        "chmod=0700",
        "[supervisord]",
        f"logfile={_escape(str(at.log / 'supervisord.log'))}",
        f"logfile_maxbytes={_LOG_BYTES}",
        "logfile_backups=1",
        f"pidfile={_escape(str(at.run / 'supervisord.pid'))}",
        f"childlogdir={_escape(str(at.log))}",
        # Names root where it is root: supervisord warns of an omission, not of a decision.
        *(["user=root"] if os.getuid() == 0 else []),
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "[rpcinterface:backoff]",
        "supervisor.rpcinterface_factory=compose.embedded.backoff:make",
    ]
    for program in programs:
        lines += _render_program(at, program)
    return "\n".join(lines) + "\n"


def _render_program(at: Places, program: Program) -> list[str]:
    environment = ",".join(
        f'{name}="{_escape(_quotable(value))}"' for name, value in program.environment.items()
    )
    log = str(at.log / f"{program.name}.log")
    return [
        f"[program:{program.name}]",
        f"command={_escape(shlex.join(program.command))}",
        f"directory={_escape(str(program.directory))}",
        f"environment={environment}",
        *([f"user={program.user}"] if program.user else []),
        "autostart=false",
        "autorestart=unexpected",
        f"startsecs={program.start_seconds}",
        f"startretries={program.start_retries}",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_seconds}",
        "killasgroup=true",
        "redirect_stderr=true",
        # supervisord expands this one value twice.
        f"stdout_logfile={_escape(_escape(log))}",
        f"stdout_logfile_maxbytes={_LOG_BYTES}",
        "stdout_logfile_backups=2",
    ]


def _escape(value: str) -> str:
    """A percent sign starts an expansion in every value."""
    return value.replace("%", "%%")


def _quotable(value: str) -> str:
    # supervisord's reader has no escape for a quote, and a line break would start a new option.
    if '"' in value or "\n" in value:
        raise StackError(
            f"{value!r} cannot be handed to supervisord, because it has a quote or a line break; "
            "choose a path or a value without."
        )
    return value


class Supervisor:
    """One stack's supervisord."""

    def __init__(self, at: Places) -> None:
        self._at = at

    @property
    def server_url(self) -> str:
        """What supervisord tells its children in SUPERVISOR_SERVER_URL: theirs and no other's."""
        return f"unix://{socket_path(self._at)}"

    def running(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._call("supervisor.getState")["statename"] == "RUNNING")
        except (OSError, HTTPException):
            return False

    def write_config(self, programs: Iterable[Program]) -> None:
        """Write the configuration, readable by the owner only, in one step."""
        path = config_path(self._at)
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(render(self._at, programs))
        new.replace(path)

    def start(self) -> None:
        """Start it as a daemon in a session of its own, where the terminal's Ctrl-C cannot reach.

        Raises:
            StackError: it refused; the text carries what it said.
        """
        _private_directory(socket_path(self._at).parent)
        result = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(config_path(self._at))],
            env=base_environment(self._at),
            cwd=self._at.run,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            check=False,
        )
        deadline = time.monotonic() + 10
        while result.returncode == 0 and time.monotonic() < deadline:
            if self.running():
                return
            time.sleep(0.02)
        raise StackError(
            f"supervisord does not start (exit code {result.returncode}): {result.stdout.strip()}; "
            f"see {self._at.log / 'supervisord.log'}."
        )

    def reload(self) -> list[str]:
        """Take a changed configuration over; what changed is stopped. Returns the changed names."""
        (added, changed, removed), *_ = self._call("supervisor.reloadConfig")
        for name in [*changed, *removed]:
            self._call("supervisor.stopProcessGroup", name)
            self._call("supervisor.removeProcessGroup", name)
        for name in [*added, *changed]:
            self._call("supervisor.addProcessGroup", name)
        return [*added, *changed, *removed]

    def states(self) -> dict[str, ProgramState]:
        """The state of every program, by name."""
        return {
            info["name"]: ProgramState(
                info["statename"],
                info["pid"],
                info["now"] - info["start"] if info["pid"] else 0,
            )
            for info in self._call("supervisor.getAllProcessInfo")
        }

    def start_program(self, name: str) -> None:
        """Start a program without waiting for it; one that is up is left alone."""
        self._ignoring(Faults.ALREADY_STARTED, "supervisor.startProcess", name, False)

    def stop_program(self, name: str, *, wait: bool = True) -> None:
        """Stop a program and wait until it is gone; one that is down is left alone."""
        self._ignoring(Faults.NOT_RUNNING, "supervisor.stopProcess", name, wait)

    def shutdown(self) -> None:
        """Ask it to stop what still runs, and then itself."""
        self._call("supervisor.shutdown")

    def _ignoring(self, fault: int, method: str, *arguments: object) -> None:
        try:
            self._call(method, *arguments)
        except Fault as exc:
            if exc.faultCode != fault:
                raise StackError(
                    f"supervisord refuses {method}{arguments} ({exc.faultString}); "
                    f"see {self._at.log / 'supervisord.log'}."
                ) from exc

    def _call(self, method: str, *arguments: object) -> Any:
        # A new connection per call: one is not to be shared between threads, nor kept over a fork.
        transport = SupervisorTransport(None, None, self.server_url)
        with ServerProxy("http://127.0.0.1", transport=cast("Any", transport)) as proxy:
            return getattr(proxy, method)(*arguments)


def base_environment(at: Places) -> dict[str, str]:
    """What every process of the stack is born with.

    Nothing of the caller's is passed on but the search path: a JAVA_TOOL_OPTIONS, PGDATA or
    PYTHONPATH of a shell must not reach the servers.
    """
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(at.run),
        "TMPDIR": str(at.temporary),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


def _private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise StackError(
            f"{path} belongs to somebody else or may be written by others, and the control socket "
            f"must not lie there; remove it, or choose a shorter {PREFIX}STACK_DIR."
        )
