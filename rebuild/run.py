"""A rebuild from beginning to end: in place, or in a shadow that readers are switched to."""

from collections.abc import Callable
from contextlib import closing

from inventory.settings import Settings
from rebuild.crew import Task
from rebuild.options import Options, Result, Stage
from rebuild.progress import Progress, Standing
from rebuild.session import Lock, Session, open_redis, run_id_of
from rebuild.shadow import Shadow
from rebuild.shadow_space import ShadowSpace
from rebuild.steps import Steps


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
        self._options = options
        self._say = say
        self._show = show

    def run(self) -> Result:
        """Do it, or go on where an earlier run has stopped.

        Raises:
            RebuildError: it cannot begin or go on; the text says what to do.
            Outage: a server does not answer; another run goes on.
        """
        options, url = self._options, str(self._settings.redis_url)
        result = Result(options.source, options.shadow)
        with open_redis(url) as live, closing(ShadowSpace(url)) as spaces, Lock.held(live) as lock:
            session = Session(lock.owner, run_id_of(live))
            steps = Steps(
                self._settings, options, live, lock, session, result, self._say, self._show
            )
            shadow = Shadow(steps, spaces)
            if _finished(steps, shadow):
                return steps.result
            if options.restart:
                steps.forget()
            progress = Progress(live, session)
            if options.shadow:
                # One in place is refused: channels must be told of what it has mended.
                steps.resumed(progress)
                shadow.run()
            else:
                _mend(steps, progress)
        return steps.result


def _finished(steps: Steps, shadow: Shadow) -> bool:
    """Finish a run that was stopped after its switch; whether it is the one that is asked for."""
    facts = Progress(steps.live, steps.session).read()
    if not shadow.finish():
        return False
    steps.say("an earlier run had switched readers and was stopped then: the rest of it is done")
    options = steps.options
    asked = all(facts.get(name) == value for name, value in steps.is_asked.items())
    if asked and not options.restart:
        steps.result.resumed = True
        return True
    steps.result = Result(options.source, options.shadow)
    return False


def _mend(steps: Steps, progress: Progress) -> None:
    """In place."""
    standing = steps.resumed(progress)
    policies = steps.policies()
    if standing is None:
        progress.begin(steps.plan())
    with steps.timed("mending"):
        steps.do(Task.MEND, progress, policies, steps.url)
    steps.result.counts = counts = Standing(progress.read()).counts
    steps.result.wrong = counts.mended
    if counts.mended:
        steps.tell(policies)
    progress.clear()
