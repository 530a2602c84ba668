"""A rebuild from beginning to end: in place, or in a shadow that readers are switched to."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from redis import Redis

from inventory.errors import RebuildError
from inventory.settings import Settings
from projections.outage import redis_outages
from rebuild.crew import Crew, From, Task, job_of
from rebuild.follow import Follower, Switch, applied
from rebuild.policies import Policies, read_policies
from rebuild.progress import DIFFERING_KEY, SUSPECTS_KEY, Counts, Lock, Progress, Standing
from rebuild.rows import row_parts
from rebuild.shadow_space import ShadowSpace
from rebuild.tell import read_marks, tell_again
from rebuild.topics import ends

#: How often a shadow is begun anew because a channel's policy was edited meanwhile.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for.

    Attributes:
        restart: forget an earlier run that did not come to its end.
        keep: leave the old key space in the shadow's database after the switch.
        processes: how many read and write at once.
    """

    source: From = From.KAFKA
    shadow: bool = False
    restart: bool = False
    keep: bool = False
    processes: int = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a rebuild is, to be shown; `whole` is None where that is not known."""

    name: str
    done: int
    whole: int | None


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        counts: over all runs, if it was interrupted.
        wrong: SKUs whose channels had been told something else, or nothing.
        told: the channels that are being told of every SKU for that.
        seconds: of each stage of this run.
        switched: whether readers were switched to another key space.
    """

    source: From
    shadow: bool
    resumed: bool = False
    counts: Counts = field(default_factory=Counts)
    wrong: int = 0
    told: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    switched: bool = False


class Rebuild:
    """One run.

    Args:
        say: told of each step.
        show: told several times a second how far a step is.
    """

    def __init__(
        self,
        settings: Settings,
        options: Options,
        say: Callable[[str], None],
        show: Callable[[Stage], None],
    ) -> None:
        self._settings = settings
        self._bootstrap = settings.kafka_bootstrap
        self._url = str(settings.redis_url)
        self._options = options
        self._say = say
        self._show = show
        self._result = Result(options.source, options.shadow)

    def run(self) -> Result:
        """Do it, or go on where an earlier run has stopped.

        Raises:
            RebuildError: it cannot begin or go on; the text says what to do.
            Outage: a server does not answer; another run goes on.
        """
        with Redis.from_url(self._url) as live, Lock.held(live) as lock:
            if self._options.shadow:
                self._shadow(live, lock)
            else:
                self._in_place(live, lock)
        return self._result

    def _in_place(self, live: Redis, lock: Lock) -> None:
        progress = Progress(live)
        if self._options.restart:
            progress.clear()
        standing = self._resumed(progress)
        policies = self._policies(live)
        if standing is None:
            standing = self._begin(progress, self._parts(live))
        with self._timed("mending"):
            self._do(Task.MEND, standing, policies, self._url, lock, progress)
        self._result.counts = counts = Standing(progress.read()).counts
        self._result.wrong = counts.mended
        if counts.mended:
            self._tell(live, policies)
        progress.clear()

    def _shadow(self, live: Redis, lock: Lock) -> None:
        with closing(ShadowSpace(self._url)) as spaces:
            begun = spaces.check()
            if begun and self._options.restart:
                spaces.clear()
            for _ in range(_ATTEMPTS):
                policies = self._policies(live)
                if self._fill(live, lock, spaces, policies):
                    break
                self._say("the policy of a channel was edited meanwhile: beginning anew")
                spaces.clear()
            else:
                raise RebuildError(
                    f"Policies of channels were edited during {_ATTEMPTS} rebuilds; wait for a "
                    "quiet moment."
                )
            self._result.switched = True
            with redis_outages():
                self._result.wrong = int(live.scard(SUSPECTS_KEY))
            now = self._policies(live)
            if self._result.wrong or now.digests != policies.digests:
                self._tell(live, now)
            Progress(live).clear()
            if not self._options.keep:
                spaces.drop()

    def _fill(self, live: Redis, lock: Lock, spaces: ShadowSpace, policies: Policies) -> bool:
        """Load, follow, audit and switch; False if a policy was edited meanwhile."""
        progress = Progress(spaces.shadow)
        standing = self._resumed(progress)
        fingerprint = str(sorted(policies.digests.items()))
        if standing is None:
            start = self._applied(live)
            standing = self._begin(progress, self._parts(live), policies=fingerprint)
            if self._options.source is From.POSTGRES:
                progress.note({part: str(offset) for part, offset in start.items()}, Counts())
        elif standing.facts.get("policies") != fingerprint:
            return False
        with self._timed("loading"):
            self._do(Task.LOAD, standing, policies, spaces.url, lock, progress)
        standing = Standing(progress.read())
        with closing(
            Follower(spaces, self._bootstrap, policies.all, self._reached(standing))
        ) as follower:
            with self._timed("following"):
                follower.until_close(lambda left: self._show(Stage("following", left, None)))
            with self._timed("auditing"):
                self._audit(policies, spaces, follower, lock)
            with self._timed("switching"):
                if self._policies(live).digests != policies.digests:
                    return False
                self._result.counts = Standing(progress.read()).counts
                Switch(spaces, follower, policies, self._settings.conninfo()).until_done()
        return True

    def _audit(
        self, policies: Policies, spaces: ShadowSpace, follower: Follower, lock: Lock
    ) -> None:
        """Compare the shadow with Postgres, and follow meanwhile."""
        with redis_outages():
            spaces.shadow.delete(DIFFERING_KEY)
        parts = row_parts(self._settings.conninfo(), 2 * self._options.processes)
        standing = Standing({f"end:{part}": end for part, end in parts.items()})
        job = job_of(Task.CHECK, From.POSTGRES, self._places(spaces.url), policies.all)

        def meanwhile() -> None:
            lock.check()
            follower.step()
            self._show(Stage("auditing", 0, None))

        with Crew(job, standing, self._options.processes) as crew:
            crew.wait(meanwhile)

    def _do(
        self,
        task: Task,
        standing: Standing,
        policies: Policies,
        space: str,
        lock: Lock,
        progress: Progress,
    ) -> None:
        """All parts that are left."""
        kafka = self._options.source is From.KAFKA
        whole = sum(map(int, standing.parts.values())) if kafka else None
        job = job_of(task, self._options.source, self._places(space), policies.all)

        def look() -> None:
            lock.check()
            self._show(Stage(task.value, Standing(progress.read()).counts.records, whole))

        with Crew(job, standing, self._options.processes) as crew:
            crew.wait(look)

    def _resumed(self, progress: Progress) -> Standing | None:
        """An earlier run that is to be gone on with."""
        facts = progress.read()
        if not facts:
            return None
        if any(facts.get(name) != value for name, value in self._plan().items()):
            mode = " --shadow" if facts.get("mode") == "shadow" else ""
            before = f"--from {facts.get('source')}{mode}"
            raise RebuildError(
                f"A rebuild with {before} was interrupted: go on with the same options, or begin "
                "anew with --restart."
            )
        standing = Standing(facts)
        self._result.resumed = True
        self._say(
            f"going on where an earlier run has stopped: {standing.counts.records:,} records are "
            f"done, {len(standing.left)} of {len(standing.parts)} parts are left"
        )
        return standing

    def _begin(self, progress: Progress, parts: Mapping[str, str], **facts: str) -> Standing:
        progress.begin({**self._plan(), **facts}, parts)
        return Standing(progress.read())

    def _plan(self) -> dict[str, str]:
        mode, source = self._options.shadow, self._options.source
        return {"mode": "shadow" if mode else "in place", "source": source.value}

    def _parts(self, live: Redis) -> dict[str, str]:
        """What is read, and where each part ends: where the workers are, if that is known."""
        if self._options.source is From.POSTGRES:
            return row_parts(self._settings.conninfo(), 2 * self._options.processes)
        known = applied(live)
        found = ends(self._bootstrap)
        return {part: str(min(end, known.get(part, end))) for part, end in found.items()}

    def _applied(self, live: Redis) -> dict[str, int]:
        """How far the workers are in every part that holds something.

        Raises:
            RebuildError: Redis does not know.
        """
        known = applied(live)
        missing = [part for part, end in ends(self._bootstrap).items() if end and part not in known]
        if missing:
            raise RebuildError(
                f"Redis does not know how far the workers are in {missing[0]}: wait until they "
                "have restored it, or rebuild in place, without --shadow."
            )
        return known

    def _reached(self, standing: Standing) -> dict[str, int]:
        """Where the shadow goes on: after what was loaded."""
        ended = standing.parts if self._options.source is From.KAFKA else {}
        start = dict.fromkeys(ends(self._bootstrap), 0)
        start |= {part: int(end) for part, end in ended.items()}
        return start | {p: int(at) for p, at in standing.positions.items() if p in start}

    def _policies(self, live: Redis) -> Policies:
        marked = {name for told in read_marks(live).values() for name in told}
        return read_policies(self._bootstrap, marked)

    def _places(self, space: str) -> dict[str, str]:
        return {
            "bootstrap": self._bootstrap,
            "conninfo": self._settings.conninfo(),
            "live": self._url,
            "space": space,
        }

    def _tell(self, live: Redis, policies: Policies) -> None:
        self._result.told = sorted(policies.digests)
        tell_again(live, self._bootstrap, self._result.told)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        self._say(stage)
        begun, before = time.monotonic(), self._result.seconds.get(stage, 0.0)
        yield
        self._result.seconds[stage] = before + time.monotonic() - begun
