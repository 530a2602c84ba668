"""The processes that do the parts of a plan, a portion at a time."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event

from redis import Redis

from inventory.errors import RebuildError, StockwireError
from inventory.policy import ChannelPolicy, PolicySet
from rebuild.mend import Check, Load, Mend, Work
from rebuild.portion import Source
from rebuild.progress import AGAIN, REBUILD_KEY, Progress, Standing
from rebuild.rows import RowSource
from rebuild.session import Session, open_redis
from rebuild.topics import TopicSource

#: Seconds between two looks at the processes.
_LOOK = 0.2
#: Seconds that the portion in hand gets when all is to stop.
_PATIENCE = 10.0


class Task(StrEnum):
    """What is done with the parts."""

    MEND = "mend"
    LOAD = "load"
    CHECK = "check"


class From(StrEnum):
    """Where the rows come from."""

    KAFKA = "kafka"
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class Job:
    """What each process is told; it is pickled.

    Attributes:
        space: the URL of the Redis database that is written or checked, and holds the progress.
        live: the URL of the one that readers and workers use.
        key: of the hash that the progress is kept in.
    """

    task: Task
    source: From
    bootstrap: str
    conninfo: str
    live: str
    space: str
    policies: tuple[ChannelPolicy, ...]
    departed: dict[str, str]
    session: Session
    key: str = REBUILD_KEY

    def opened(self) -> Source:
        """The source, with its own connections."""
        if self.source is From.KAFKA:
            return TopicSource(self.bootstrap)
        return RowSource(self.conninfo)

    def work(self, live: Redis, space: Redis) -> Work:
        """What is done with each portion."""
        policies = PolicySet.of(self.policies, self.departed)
        match self.task:
            case Task.MEND:
                return Mend(space, policies)
            case Task.LOAD:
                return Load(live, space, policies, self.session.owner)
            case Task.CHECK:
                return Check(space, policies)


_Part = tuple[str, str | None, str]


class Crew:
    """Some processes at a job; leaving the context stops them after the portion in hand."""

    def __init__(self, job: Job, standing: Standing, processes: int) -> None:
        """Do what is left of a plan."""
        spawn = multiprocessing.get_context("spawn")
        left = standing.left
        self._stop: Event = spawn.Event()
        # A queue holds 64 KiB before somebody reads it, which is some hundred parts.
        parts = [(part, standing.positions.get(part), standing.parts[part]) for part in left]
        # Kept here: its lock would be gone before a process that has just been started finds it.
        self._taken: Synchronized[int] = spawn.Value("i", 0)
        self._failures: SimpleQueue[str] = spawn.SimpleQueue()
        self._processes: list[BaseProcess] = []
        for _ in range(min(processes, len(left))):
            process = spawn.Process(
                target=_run,
                args=(job, parts, self._taken, self._failures, self._stop, os.getpid()),
                daemon=True,  # a second Ctrl-C does not wait for it
            )
            self._processes.append(process)

    def __enter__(self) -> "Crew":
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        deadline = time.monotonic() + _PATIENCE
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                # It waits for a server; whatever it was at is done again by the next run.
                process.kill()
                process.join()

    def wait(self, meanwhile: Callable[[], None]) -> None:
        """Until all is done; `meanwhile` is called several times a second.

        Raises:
            RebuildError: a process failed or was killed.
        """
        while running := [process for process in self._processes if process.is_alive()]:
            meanwhile()
            self._check()
            running[0].join(_LOOK)
        self._check()

    def _check(self) -> None:
        if not self._failures.empty():
            raise RebuildError(self._failures.get())
        for process in self._processes:
            if process.exitcode:
                raise RebuildError(
                    f"A process of the rebuild has ended (exit code {process.exitcode}); start it "
                    "again: it goes on."
                )


def _run(
    job: Job,
    parts: Sequence[_Part],
    taken: "Synchronized[int]",
    failures: "SimpleQueue[str]",
    stop: Event,
    parent: int,
) -> None:
    """A process: does parts until all are taken, by whichever process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells when to stop

    def stopped() -> bool:
        return stop.is_set() or os.getppid() != parent

    try:
        with (
            closing(job.opened()) as source,
            open_redis(job.live) as live,
            open_redis(job.space) as space,
        ):
            work = job.work(live, space)
            progress = Progress(space, job.session, job.key)
            while (number := _take(taken)) < len(parts) and not stopped():
                do_part(source, work, progress, parts[number], stopped)
    except RebuildError as exc:
        failures.put(str(exc))
    except StockwireError as exc:
        failures.put(f"{exc} {AGAIN}")


def _take(taken: "Synchronized[int]") -> int:
    """The number of the next part."""
    with taken.get_lock():
        number = taken.value
        taken.value += 1
    return number


def do_part(
    source: Source, work: Work, progress: Progress, part: _Part, stopped: Callable[[], bool]
) -> None:
    """One part from where it stands; each portion is noted once it is written."""
    name, start, end = part
    progress.reached = {} if start is None else {name: start}
    for portion in source.portions(name, start, end):
        progress.note(portion.positions, work.take(portion))
        if stopped():
            return
    progress.note({}, done=name)


class Pace:
    """How fast it goes, from the records that were read."""

    def __init__(self, records: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin at so many records."""
        self._clock = clock
        self._begun = clock()
        self._first = records

    def rate(self, records: int) -> float:
        """Records/s since the beginning."""
        return (records - self._first) / max(1e-6, self._clock() - self._begun)

    def left(self, records: int, whole: int) -> float | None:
        """Seconds to go; None while that cannot be said."""
        rate = self.rate(records)
        return max(0, whole - records) / rate if rate else None
