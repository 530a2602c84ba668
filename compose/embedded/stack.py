"""The embedded stack: start, look at, stop and throw away."""

import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from rich.console import Console

from compose.embedded import account, jars, places, preflight, processes, progress, servers
from compose.embedded.connect import Connect
from compose.embedded.directories import exclusive
from compose.embedded.kafka import Kafka
from compose.embedded.part import Part
from compose.embedded.postgres import Postgres
from compose.embedded.redis_server import RedisServer
from compose.embedded.servers import Say
from compose.embedded.shutdown import end_leftovers, stop_everything, stop_programs
from compose.embedded.status import PartStatus
from compose.embedded.supervisord import UP, Program, ProgramState, Supervisor
from compose.embedded.workers import Answer, ask, worker_program, workers_of
from inventory.errors import StackError
from inventory.settings import Settings

_START_SECONDS = 120.0
_ABSENT = ProgramState("STOPPED", 0, 0)


def silent(_: str) -> None:
    """Say nothing."""


class Stack:
    """The servers and workers of one `stack_dir`.

    `settings` say where the servers listen and where their data lies; `worker_environment` holds
    variables that the workers get beside them.

    Raises:
        StackError: the settings point at something that the embedded stack is not.
    """

    def __init__(
        self, settings: Settings, *, worker_environment: Mapping[str, str] | None = None
    ) -> None:
        self._at = places.places(settings)
        self._environment = places.environment(settings, self._at)
        self._worker_environment = dict(worker_environment or {})
        self._workers = workers_of(settings)
        self._supervisor = Supervisor(self._at)
        self._jars = jars.jar_set(places.JARS)
        self._postgres = Postgres(self._at)
        parts: tuple[Part, ...] = (
            self._postgres,
            RedisServer(self._at),
            Kafka(self._at, self._jars),
            Connect(self._at, self._jars, self._postgres),
        )
        self._servers = {part.name: part for part in parts}

    def install(self, console: Console | None = None) -> None:
        """Bring the jars into the checkout, verified; shows progress on the console.

        Raises:
            StackError: one cannot be fetched, or is not the locked one.
        """
        with progress.shown(console) as show:
            jars.install(places.JARS, show)

    def start_servers(self, say: Say = silent, *, timeout: float = _START_SECONDS) -> None:
        """Start what does not run, and return when every server answers.

        Raises:
            StackError: something is in the way (a port, the disk, an account), or a server does
                not answer within `timeout` seconds; the text names it and ends with its log.
        """
        deadline = time.monotonic() + timeout
        if jars.missing(self._jars, jars.read_lock()):
            raise StackError(f"Jars are missing in {self._jars.path}; `make setup` installs them.")
        with exclusive(self._at):
            if not self._supervisor.running() and end_leftovers(self._at, self._postgres.data):
                say("ended what an earlier run had left behind")
            states = self._states()
            idle = [n for n in self._servers if states.get(n, _ABSENT).state not in UP]
            preflight.check_disk(self._at.root)
            preflight.check_ports(self._at.ports, idle)
            for name in idle:
                self._servers[name].prepare()
            self._configure()
            servers.start_all(self._at, self._supervisor, self._servers, deadline, say)

    def start_workers(self) -> None:
        """Start our own processes; they need migrations, topics and a connector first.

        Raises:
            StackError: the servers were not started, or a port is taken.
        """
        with exclusive(self._at):
            self._require_supervisor()
            self._configure()
            states = self._states()
            idle = [n for n in self._workers if states.get(n, _ABSENT).state not in UP]
            preflight.check_ports(self._at.ports, idle)
            for worker in self._workers:
                self._supervisor.start_program(worker)

    def stop_workers(self) -> None:
        """Stop the workers and wait until they are gone; their offsets are committed."""
        with exclusive(self._at):
            if self._supervisor.running():
                stop_programs(self._supervisor, self._workers)

    def start_part(self, part: str, *, timeout: float = _START_SECONDS) -> None:
        """Start one part; a server answers when this returns.

        Raises:
            StackError: there is no such part, the stack is down, or a server does not answer.
        """
        self._check_part(part)
        with exclusive(self._at):
            self._require_supervisor()
            if part in self._servers:
                deadline = time.monotonic() + timeout
                servers.start_one(self._at, self._supervisor, self._servers[part], deadline)
            else:
                self._supervisor.start_program(part)

    def stop_part(self, part: str) -> None:
        """Stop one part and wait until it is gone.

        Raises:
            StackError: there is no such part, or the stack is down.
        """
        self._check_part(part)
        with exclusive(self._at):
            self._require_supervisor()
            stop_programs(self._supervisor, [part])

    def restart(self, part: str, *, timeout: float = _START_SECONDS) -> None:
        """Stop and start one part; raises what the two raise."""
        self.stop_part(part)
        self.start_part(part, timeout=timeout)

    def kill(self, part: str, number: int = signal.SIGKILL) -> int:
        """Send a part's main process a signal; returns its pid.

        Raises:
            StackError: it does not run.
        """
        pid = self._states().get(part, _ABSENT).pid
        if not pid:
            raise StackError(f"{part} does not run, so it cannot be sent a signal.")
        processes.send(psutil.Process(pid), number)
        return pid

    def stop(self, say: Say = silent) -> None:
        """Stop everything in reverse order and keep the data; no process is left.

        Raises:
            StackError: a process does not even end when killed.
        """
        with exclusive(self._at):
            say("stopping the workers, Connect, Kafka, Redis and Postgres")
            stop_everything(self._at, self._supervisor, self._postgres.data, self._workers)

    def reset(self, say: Say = silent) -> None:
        """Stop everything and throw data, logs and passwords away.

        Raises:
            StackError: a process or a file cannot be got rid of.
        """
        self.stop(say)
        doomed = [self._at.root]
        if os.getuid() == 0:
            doomed.append(account.staging(self._at))
        for path in doomed:
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise StackError(f"{path} cannot be removed ({exc}); check its owner.") from exc

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the servers and of the workers."""
        return (*self._servers, *self._workers)

    def status(self) -> list[PartStatus]:
        """Every part, whether it runs or not."""
        states = self._states()
        return [self._status_of(part, states.get(part, _ABSENT)) for part in self.parts]

    def ask(self, worker: str) -> Answer | None:
        """What a worker says of itself; None if it does not answer."""
        return ask(self._at.ports, worker)

    def worker_pids(self) -> dict[str, int]:
        """The pids of the workers that run, by name."""
        states = self._states()
        return {
            name: states[name].pid for name in self._workers if name in states and states[name].pid
        }

    def log_path(self, part: str) -> Path:
        """Where a part's log is, whether or not there is one yet.

        Raises:
            StackError: there is no such part.
        """
        self._check_part(part)
        return self._at.log / f"{part}.log"

    def log_tail(self, part: str, lines: int = 20) -> str:
        """The last lines of a part's log; empty when it has none."""
        return servers.log_tail(self._at, part, lines)

    def environment(self) -> dict[str, str]:
        """Every `STOCKWIRE_*` variable that leads another process to this stack."""
        return dict(self._environment)

    def _configure(self) -> None:
        """Run supervisord with today's configuration; only what changed is stopped."""
        worker_environment = {**self._environment, **self._worker_environment}
        programs: list[Program] = [server.program() for server in self._servers.values()]
        ports = self._at.ports
        programs += [worker_program(worker, worker_environment, ports) for worker in self._workers]
        self._supervisor.write_config(programs)
        if self._supervisor.running():
            self._supervisor.reload()
        else:
            self._supervisor.start()

    def _states(self) -> dict[str, ProgramState]:
        return self._supervisor.states() if self._supervisor.running() else {}

    def _status_of(self, part: str, state: ProgramState) -> PartStatus:
        answer = self._answer_of(part) if state.pid else Answer(False, {}, {})
        return PartStatus(
            part=part,
            state=state.state,
            pid=state.pid or None,
            port=self._at.ports.of(part)[0],
            resident_mb=processes.resident_bytes(state.pid) >> 20 if state.pid else 0,
            uptime=state.uptime,
            answers=answer is not None and bool(state.pid),
            ready=answer is not None and answer.ready,
            reason="it does not answer" if answer is None else answer.reason,
            facts={} if answer is None else answer.facts,
        )

    def _answer_of(self, part: str) -> Answer | None:
        server = self._servers.get(part)
        if server is None:
            return self.ask(part)
        return Answer(True, {}, {}) if servers.trouble(server) is None else None

    def _check_part(self, part: str) -> None:
        if part not in self.parts:
            raise StackError(f"There is no part {part}; the parts are {', '.join(self.parts)}.")

    def _require_supervisor(self) -> None:
        if not self._supervisor.running():
            raise StackError(f"The stack in {self._at.root} does not run; start it with `make up`.")
