"""Keeps a loaded shadow up with the workers, audits it, and switches readers to it."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from redis import Redis

from inventory.errors import RebuildError
from projections.checkpoint import read_checkpoints
from projections.marks import decoded, raw_marks
from projections.outage import redis_outages
from rebuild.mend import Check, Load
from rebuild.policies import Policies
from rebuild.portion import Portion
from rebuild.progress import DIFFERING_KEY, Progress
from rebuild.rows import RowSource
from rebuild.shadow_space import ShadowSpace, Switched
from rebuild.tell import being_told
from rebuild.topics import Following, ends, part_of

#: Seconds that the last steps get: changes in flight, channels that are being told.
PATIENCE = 60.0
#: SKUs that are looked at again at once.
_AT_ONCE = 1_000
#: Seconds after which a SKU that still differs is no change on its way: it is loaded again.
_SETTLED = 5.0
#: Seconds between two looks at the topics' ends while the shadow is behind.
_LOOK = 5.0


def applied(live: Redis) -> dict[str, int]:
    """How far the workers have applied each part: the next offset.

    Raises:
        RebuildError: they are restoring what Redis has lost.
        Outage: Redis does not answer.
    """
    known = read_checkpoints(live)
    if known.restoring:
        raise RebuildError(
            f"The workers restore partitions {sorted(known.restoring)} that Redis has lost; wait "
            "until they are ready, `stockwire status` shows it."
        )
    return {part_of(*place): offset for place, offset in known.offsets.items()}


class Follower:
    """Follows the workers with a loaded shadow.

    Args:
        progress: of the shadow.
        positions: how far the shadow is, by part.
    """

    def __init__(
        self,
        spaces: ShadowSpace,
        bootstrap: str,
        load: Load,
        progress: Progress,
        positions: Mapping[str, int],
    ) -> None:
        self._spaces = spaces
        self._load = load
        self._progress = progress
        self._bootstrap = bootstrap
        self._following = Following(bootstrap, positions)
        self._parts = frozenset(positions)
        self.positions: Mapping[str, str] = {}

    def close(self) -> None:
        """Leave the brokers."""
        self._following.close()

    def step(self) -> int:
        """Load what the workers have applied since; how many records are left.

        The topics are read before the checkpoint: what the workers apply while they are waited for
        is loaded, too, and a switch may follow at once.

        Raises:
            RebuildError: the live space or the shadow has lost data meanwhile, or another rebuild
                has taken over.
        """
        self._following.poll()
        reached = applied(self._spaces.live)
        if not reached:
            raise RebuildError(
                "Redis has lost its data during the rebuild; the workers restore it by themselves. "
                "Begin anew with --restart."
            )
        if unknown := sorted(reached.keys() - self._parts):
            raise RebuildError(
                f"The workers have applied records of {unknown[0]}, which Kafka did not have when "
                "this run began: if partitions have been added, start it again; if the topic was "
                "created anew, rebuild once the workers have gone through it."
            )
        portion = self._following.upto(reached)
        counts = self._load.take(portion)
        noted = self._progress.reached
        if moved := {part: at for part, at in portion.positions.items() if noted.get(part) != at}:
            self._progress.note(moved, counts)
        self.positions = portion.positions
        return sum(max(0, end - int(self.positions.get(part, 0))) for part, end in reached.items())

    def until_close(self, show: Callable[[int, int], None]) -> None:
        """Until the shadow has all that the workers have, for a moment.

        Args:
            show: told how many records are left, and how many there were at most.

        Raises:
            RebuildError: that will never be; see also `step`.
        """
        most = 0
        look = time.monotonic()
        while left := self.step():
            if time.monotonic() >= look:
                self._check_ends()
                look = time.monotonic() + _LOOK
            most = max(most, left)
            show(left, most)

    def _check_ends(self) -> None:
        # The checkpoint first: what is applied was in the topic before.
        reached = applied(self._spaces.live)
        found = ends(self._bootstrap)
        for part, offset in sorted(reached.items()):
            if offset > found.get(part, 0):
                raise RebuildError(
                    f"Redis says that the workers have applied {part} up to {offset:,}, but it "
                    f"ends at {found.get(part, 0):,}: has the topic been deleted and created "
                    "again? Rebuild once the workers have gone through the new one."
                )


class Switch:
    """Switches once everything is right; each `attempt` is a look."""

    def __init__(
        self,
        spaces: ShadowSpace,
        follower: Follower,
        policies: Policies,
        conninfo: str,
        load: Load,
        switch: Callable[[Sequence[bytes], Mapping[int, bytes], Mapping[str, str]], Switched],
    ) -> None:
        """Switch by calling `switch` with the kept keys, marks and positions that were seen."""
        self._spaces = spaces
        self._follower = follower
        self._policies = policies
        self._conninfo = conninfo
        self._load = load
        self._switch = switch
        self._settled = time.monotonic() + _SETTLED

    def until_done(self, check: Callable[[], None]) -> None:
        """Follow and try until the spaces are switched.

        Args:
            check: called before each attempt.

        Raises:
            RebuildError: the shadow differs from Postgres or has lost data, there was no moment to
                switch, or another rebuild has taken over.
        """
        deadline = time.monotonic() + PATIENCE
        with closing(RowSource(self._conninfo)) as rows:
            while True:
                check()
                reason = self._attempt(rows)
                if reason is None:
                    return
                if time.monotonic() > deadline:
                    raise RebuildError(
                        f"Readers were not switched: {reason}. The shadow stays as it is; start "
                        "the rebuild again to go on, or with --restart to begin anew."
                    )

    def _attempt(self, rows: RowSource) -> str | None:
        """Why it was not switched now; None if it was."""
        self._follower.step()
        if differing := self._differing(rows):
            return (
                f"{len(differing):,} SKUs of the shadow are not as Postgres says, such as "
                f"{min(differing)!r}"
            )
        marks = raw_marks(self._spaces.live)
        told = being_told(decoded(marks), self._policies.digests)
        if told:
            return f"{', '.join(told)}: being told of every SKU (see `stockwire channels`)"
        keys = self._spaces.kept_keys()
        # What the workers did meanwhile; then the little that is left, and nothing between that and
        # the switch: they go on all the time.
        self._follower.step()
        if left := self._follower.step():
            return f"the shadow is {left:,} changes behind the workers"
        switched = self._switch(keys, marks, self._follower.positions)
        return None if switched is Switched.DONE else f"the workers were faster ({switched})"

    def _differing(self, rows: RowSource) -> set[str]:
        """Of the SKUs that an audit has found, those that still differ; they are loaded again."""
        redis = self._spaces.shadow
        check = Check(redis, self._policies.all)
        with redis_outages():
            members: set[Any] = redis.smembers(DIFFERING_KEY)
        found = sorted(sku.decode() for sku in members)
        left: set[str] = set()
        for start in range(0, len(found), _AT_ONCE):
            some = found[start : start + _AT_ONCE]
            changes = rows.of(some)
            # A SKU that Postgres has no longer is its deleted rows.
            outdated = check.differing(changes)
            wrong = {
                *outdated,
                *check.listed([s for s in some if s not in changes]),
            }
            left |= wrong
            if outdated and time.monotonic() >= self._settled:
                again = {sku: changes[sku] for sku in outdated}
                self._load.take(Portion(again, {}, len(again)))
            right = [sku for sku in some if sku not in wrong]
            if right:
                with redis_outages():
                    redis.srem(DIFFERING_KEY, *right)
        return left
