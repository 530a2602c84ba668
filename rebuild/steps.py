"""What every kind of rebuild is made of: a plan that is begun or gone on with, and its parts."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis import Redis

from inventory.errors import RebuildError
from inventory.settings import Settings
from projections.marks import read_marks
from rebuild.crew import Crew, From, Job, Task
from rebuild.follow import applied
from rebuild.options import Options, Result, Stage
from rebuild.policies import Policies, read_policies
from rebuild.progress import REBUILD_KEY, Plan, Progress, Standing
from rebuild.rows import row_plan
from rebuild.session import Lock, Session
from rebuild.shadow_space import IN_SHADOW
from rebuild.tell import tell_again
from rebuild.topics import topic_plan


class Steps:
    """The steps of one run, which holds the lock.

    Args:
        live: the database that readers and workers use.
        result: filled in on the way.
        say: told of each step.
        show: told several times a second how far a step is.
    """

    def __init__(
        self,
        settings: Settings,
        options: Options,
        live: Redis,
        lock: Lock,
        session: Session,
        result: Result,
        say: Callable[[str], None],
        show: Callable[[Stage], None],
    ) -> None:
        self.options = options
        self.live = live
        self.lock = lock
        self.session = session
        self.result = result
        self.say = say
        self.show = show
        self.url = str(settings.redis_url)
        self.bootstrap = settings.kafka_bootstrap
        self.conninfo = settings.conninfo()
        self._stage = ""

    @property
    def is_asked(self) -> dict[str, str]:
        """What a record must say of itself to be of the same kind."""
        mode, source = self.options.shadow, self.options.source
        return {"mode": IN_SHADOW if mode else "in place", "source": source.value}

    def resumed(self, progress: Progress) -> Standing | None:
        """An earlier run that is gone on with.

        Raises:
            RebuildError: it was of another kind.
        """
        facts = progress.read()
        if not facts:
            return None
        if any(facts.get(name) != value for name, value in self.is_asked.items()):
            mode = " --shadow" if facts.get("mode") == IN_SHADOW else ""
            before = f"--from {facts.get('source')}{mode}"
            raise RebuildError(
                f"A rebuild with {before} was interrupted: go on with the same options, or begin "
                "anew with --restart."
            )
        standing = progress.claim()
        self.result.resumed = True
        self.say(
            f"going on where an earlier run has stopped: {standing.counts.records:,} records are "
            f"done, {len(standing.left)} of {len(standing.parts)} parts are left"
        )
        return standing

    def forget(self) -> None:
        """Drop the record of an earlier run in place; what it has mended, channels are told of."""
        progress = Progress(self.live, self.session)
        if Standing(progress.read()).counts.mended:
            self.tell(self.policies())
        progress.clear()

    def plan(self) -> Plan:
        """What is read, and where each part ends: where the workers are, if that is known."""
        if self.options.source is From.POSTGRES:
            plan = row_plan(self.conninfo, 2 * self.options.processes)
        else:
            plan = topic_plan(self.bootstrap, applied(self.live))
        return plan._replace(facts={**plan.facts, **self.is_asked})

    def do(
        self,
        task: Task,
        progress: Progress,
        policies: Policies,
        space: str,
        meanwhile: Callable[[], object] = lambda: None,
        *,
        source: From | None = None,
        key: str = REBUILD_KEY,
    ) -> None:
        """All parts that are left, by several processes; `meanwhile` is called all the time."""
        standing = progress.standing()
        job = Job(
            task,
            source or self.options.source,
            self.bootstrap,
            self.conninfo,
            self.url,
            space,
            policies.all.policies,
            dict(policies.all.departed),
            self.session,
            key,
        )

        def look() -> None:
            self.lock.check()
            meanwhile()
            now = Standing(progress.read())
            self.show(Stage(self._stage, now.done, now.whole))

        with Crew(job, standing, self.options.processes) as crew:
            crew.wait(look)
        progress.standing()

    def policies(self) -> Policies:
        """The channels' policies of now."""
        marked = {name for told in read_marks(self.live).values() for name in told}
        return read_policies(self.bootstrap, marked)

    def tell(self, policies: Policies) -> None:
        """Have every channel told of every SKU."""
        self.result.told = sorted(policies.digests)
        tell_again(self.live, self.bootstrap, self.result.told)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """One step, for the result."""
        self.say(stage)
        self._stage = stage
        begun, before = time.monotonic(), self.result.seconds.get(stage, 0.0)
        yield
        self.result.seconds[stage] = before + time.monotonic() - begun
