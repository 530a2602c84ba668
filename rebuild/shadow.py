"""A rebuild in a second key space, that readers are switched to."""

from collections.abc import Mapping
from contextlib import closing
from functools import partial

from inventory.errors import RebuildError
from projections.outage import redis_outages
from rebuild.crew import From, Task
from rebuild.follow import Follower, Switch, applied
from rebuild.mend import Load
from rebuild.options import Stage
from rebuild.policies import Policies
from rebuild.progress import AUDIT_KEY, DIFFERING_KEY, SUSPECTS_KEY, Plan, Progress, Standing
from rebuild.rows import row_plan
from rebuild.shadow_space import KEEP, SWITCHED, ShadowSpace
from rebuild.steps import Steps
from rebuild.topics import ends

#: How often a shadow is begun anew because a channel's policy was edited meanwhile.
_ATTEMPTS = 3

#: The fact that says by which policies a shadow was loaded.
_POLICIES = "policies"


class Shadow:
    """Fills the second key space, switches readers to it, and finishes."""

    def __init__(self, steps: Steps, spaces: ShadowSpace) -> None:
        """Fill the shadow of these spaces."""
        self._steps = steps
        self._spaces = spaces

    def run(self) -> None:
        """Do it, or go on with it.

        Raises:
            RebuildError: it cannot begin or go on; the text says what to do.
            Outage: a server does not answer; another run goes on.
        """
        steps = self._steps
        if self._spaces.check() and steps.options.restart:
            self._spaces.clear(steps.session)
        for _ in range(_ATTEMPTS):
            policies = steps.policies()
            if self._fill(policies):
                self.finish()
                return
            steps.say("the policy of a channel was edited meanwhile: beginning anew")
            self._spaces.clear(steps.session)
        raise RebuildError(
            f"Policies of channels were edited during {_ATTEMPTS} rebuilds; wait for a quiet "
            "moment."
        )

    def finish(self) -> bool:
        """Once readers are switched: tell channels what was wrong, and drop the old key space.

        The record was switched with the shadow, so whoever is stopped before the end of it leaves
        the rest to the next run, of whatever kind.

        Returns:
            Whether there was anything to finish.
        """
        steps = self._steps
        progress = Progress(steps.live, steps.session)
        standing = Standing(progress.read())
        if SWITCHED not in standing.facts:
            return False
        result = steps.result
        result.switched, result.counts = True, standing.counts
        with redis_outages():
            result.wrong = int(steps.live.scard(SUSPECTS_KEY))
        now = steps.policies()
        if result.wrong or now.fingerprint != standing.facts[_POLICIES]:
            steps.tell(now)
        if standing.facts[SWITCHED] != KEEP:
            self._spaces.clear(steps.session)
        progress.clear()
        return True

    def _fill(self, policies: Policies) -> bool:
        """Load, follow, audit and switch; False if a policy was edited meanwhile."""
        steps, spaces = self._steps, self._spaces
        progress = Progress(spaces.shadow, steps.session)
        standing = steps.resumed(progress)
        if standing is None:
            progress.begin(self._plan(policies))
        elif standing.facts.get(_POLICIES) != policies.fingerprint:
            return False
        with steps.timed("loading"):
            steps.do(Task.LOAD, progress, policies, spaces.url)
        load = Load(spaces.live, spaces.shadow, policies.all, steps.session.owner)
        with closing(
            Follower(spaces, steps.bootstrap, load, progress, self._reached(progress.reached))
        ) as follower:
            with steps.timed("following"):
                follower.until_close(self._look)
            with steps.timed("auditing"):
                self._audit(policies, progress, follower)
            with steps.timed("switching"):
                if steps.policies().digests != policies.digests:
                    return False
                switch = partial(spaces.switch, steps.session, keep=steps.options.keep)
                Switch(spaces, follower, policies, steps.conninfo, load, switch).until_done(
                    steps.lock.check
                )
        return True

    def _look(self, left: int, most: int) -> None:
        self._steps.lock.check()
        self._steps.show(Stage("following", most - left, most))

    def _audit(self, policies: Policies, progress: Progress, follower: Follower) -> None:
        """Compare the shadow with Postgres, and follow meanwhile."""
        steps, shadow = self._steps, self._spaces.shadow
        progress.note({}, audited="")
        progress.forget(DIFFERING_KEY)
        audit = Progress(shadow, steps.session, AUDIT_KEY)
        audit.read()  # of an earlier run, or none: that is what is replaced
        audit.begin(row_plan(steps.conninfo, 2 * steps.options.processes))
        steps.do(
            Task.CHECK,
            audit,
            policies,
            self._spaces.url,
            follower.step,
            source=From.POSTGRES,
            key=AUDIT_KEY,
        )
        progress.note({}, audited="1")

    def _plan(self, policies: Policies) -> Plan:
        """What is loaded, and where the shadow then follows the topics from.

        Raises:
            RebuildError: Redis does not know how far the workers are.
        """
        known = applied(self._steps.live)
        found = ends(self._steps.bootstrap)
        missing = [part for part, end in found.items() if end and part not in known]
        if missing:
            raise RebuildError(
                f"Redis does not know how far the workers are in {missing[0]}: wait until they "
                "have restored it, or rebuild in place, without --shadow."
            )
        plan = self._steps.plan()
        starts = {part: str(known.get(part, 0)) for part in found} | {**plan.starts}
        facts = {**plan.facts, _POLICIES: policies.fingerprint}
        return Plan(plan.parts, starts, facts)

    def _reached(self, positions: Mapping[str, str]) -> dict[str, int]:
        """Where the shadow goes on: after what was loaded."""
        return {part: int(positions.get(part, 0)) for part in ends(self._steps.bootstrap)}
