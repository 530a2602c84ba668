"""How far a rebuild is, kept beside the data that it writes: what loses the one loses the other."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from redis import Redis

from inventory.errors import RebuildError
from projections.outage import redis_outages
from projections.space import Space
from rebuild.session import LOCK_KEY, LOCK_LOST, Session

#: The plan, and how far each part of it is.
REBUILD_KEY = "stockwire:rebuild"
#: The same of an audit of the shadow.
AUDIT_KEY = "stockwire:rebuild:audit"
#: SKUs of which the channels may have been told something wrong.
SUSPECTS_KEY = "stockwire:rebuild:suspects"
#: SKUs that an audit of the shadow has found to differ from Postgres.
DIFFERING_KEY = "stockwire:rebuild:differing"

#: All keys of a rebuild beside the lock.
OWN_KEYS = (REBUILD_KEY, AUDIT_KEY, SUSPECTS_KEY, DIFFERING_KEY)

#: The fact that says whose run writes the space; the scripts know its name.
_OWNER = "owner"

#: What comes before the name of a part in the field that says where it ends, how far it is, and
#: whether it is done; `note.lua` and `switch.lua` know them.
_END, _AT, _DONE = "end:", "at:", "done:"

#: Why `note.lua` and `switch.lua` refuse.
REFUSALS = {
    "owner": "Another rebuild has taken over, or Redis has lost what this one has written.",
    "server": "Redis was started again or has failed over during the rebuild.",
    "position": "Redis has lost some of what the rebuild has written.",
    "lost": "The shadow does not have all that was written to it: Redis has lost some of it.",
}
#: What helps.
AGAIN = "Start the rebuild again: it goes on from what is there."


class Counts(NamedTuple):
    """What was done so far.

    Attributes:
        records: read from the source.
        skus: looked at, some more than once.
        mended: whose numbers were wrong or missing.
        readers: of which only the readers' hash was wrong or missing.
        unplaced: mended without knowing their partition of the stock topic.
        rejected: records that the pipeline dead-letters by rule.
    """

    records: int = 0
    skus: int = 0
    mended: int = 0
    readers: int = 0
    unplaced: int = 0
    rejected: int = 0


class Plan(NamedTuple):
    """What is to be read.

    Attributes:
        parts: by name, where each ends.
        starts: where parts begin that do not begin at their beginning.
        facts: anything else that is to be known of it later.
    """

    parts: Mapping[str, str]
    starts: Mapping[str, str]
    facts: Mapping[str, str]


class Progress:
    """The record of a rebuild in one key space. Every method raises `Outage` without Redis.

    Each note asks for the one before it, so whatever the record says was written, is there: Redis
    may lose the end of what was written, as at a failover, but nothing of what came before.
    """

    def __init__(self, redis: Redis, session: Session, key: str = REBUILD_KEY) -> None:
        """Keep it in this database."""
        self._redis = redis
        self._space = Space(redis)
        self._session = session
        self._key = key
        self._seen: str | None = None
        self.reached: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        """All of it, empty if there is none."""
        with redis_outages():
            found: dict[Any, Any] = self._redis.hgetall(self._key)
        facts = {name.decode(): value.decode() for name, value in found.items()}
        self._seen = facts.get(_OWNER, "")
        return facts

    def begin(self, plan: Plan) -> "Standing":
        """Note a new plan, in the place of the one that was last read.

        Raises:
            RebuildError: another rebuild has taken over since.
        """
        fields = dict(plan.facts)
        fields |= {f"{_END}{part}": end for part, end in plan.parts.items()}
        fields |= {f"{_AT}{part}": start for part, start in plan.starts.items()}
        return self._take({"fields": fields})

    def claim(self) -> "Standing":
        """Go on with what was last read: from now on, nobody else's notes are taken.

        Raises:
            RebuildError: another rebuild has taken over since.
        """
        return self._take({})

    def standing(self) -> "Standing":
        """What is there, from which the next note goes on."""
        standing = Standing(self.read())
        self.reached = standing.positions
        return standing

    def note(
        self,
        positions: Mapping[str, str],
        counts: Counts | None = None,
        *,
        done: str | None = None,
        **facts: str,
    ) -> None:
        """Note a portion that is written, the part that it was the last one of, or facts.

        Raises:
            RebuildError: what was noted before is not there, or another run has taken over.
        """
        moves = {part: [self.reached.get(part, ""), at] for part, at in positions.items()}
        if done is not None:
            moves[done] = [self.reached.get(done, ""), ""]
            facts[f"{_DONE}{done}"] = "1"
        added = {} if counts is None else {k: n for k, n in counts._asdict().items() if n}
        asked = {**self._session._asdict(), "moves": moves, "counts": added, "facts": facts}
        reply: str = self._space.run("note.lua", [self._key], orjson.dumps(asked)).decode()
        if reply in REFUSALS:
            raise RebuildError(f"{REFUSALS[reply]} {AGAIN}")
        self.reached |= positions

    def _take(self, asked: dict[str, Any]) -> "Standing":
        asked["owner"] = self._session.owner
        if self._seen is not None:
            asked["seen"] = self._seen
        if not self._space.run("take.lua", [self._key], orjson.dumps(asked)):
            raise RebuildError(f"{REFUSALS['owner']} {AGAIN}")
        return self.standing()

    def clear(self) -> None:
        """Forget it, and everything that is beside it; the lock is in the same space.

        Raises:
            RebuildError: another rebuild has taken over.
        """
        if not self._space.run("remove.lua", [LOCK_KEY, *OWN_KEYS], self._session.owner):
            raise RebuildError(LOCK_LOST)

    def forget(self, key: str) -> None:
        """Forget one of the keys beside it.

        Raises:
            RebuildError: another run has taken over, or all is lost.
        """
        if not self._space.run("remove.lua", [self._key, key], self._session.owner):
            raise RebuildError(f"{REFUSALS['owner']} {AGAIN}")


class Standing(NamedTuple):
    """`Progress.read`, understood."""

    facts: dict[str, str]

    @property
    def parts(self) -> dict[str, str]:
        """Where each part ends."""
        return self._named(_END)

    @property
    def positions(self) -> dict[str, str]:
        """Where each part has come to, if it has begun."""
        return self._named(_AT)

    @property
    def left(self) -> list[str]:
        """The parts that are not done, by name: overrides before the stock, as they are few."""
        done = self._named(_DONE)
        return sorted(self.parts.keys() - done.keys())

    @property
    def whole(self) -> int | None:
        """How many records there are to be read; None if that is not known."""
        return int(self.facts["whole"]) if "whole" in self.facts else None

    @property
    def done(self) -> int:
        """How many of `whole` are done.

        A compacted topic has fewer records than offsets, so there the offsets count.
        """
        if "first" not in self.facts:
            return self.counts.records
        ends = self.parts
        reached = sum(int(at) for part, at in self.positions.items() if part in ends)
        return reached - int(self.facts["first"])

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return Counts(*(int(self.facts.get(name, 0)) for name in Counts._fields))

    def _named(self, prefix: str) -> dict[str, str]:
        return {
            name.removeprefix(prefix): value
            for name, value in self.facts.items()
            if name.startswith(prefix)
        }
