"""The second key space: another logical database of the same Redis, and the switch to it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import orjson
from redis.exceptions import ResponseError

from inventory.errors import RebuildError
from projections.checkpoint import CHECKPOINT_KEY
from projections.marks import MARKS_KEY, REFUSALS_KEY
from projections.outage import redis_outages
from projections.space import Space
from rebuild.progress import AGAIN, DIFFERING_KEY, OWN_KEYS, REBUILD_KEY, REFUSALS
from rebuild.session import LOCK_KEY, LOCK_LOST, Session, open_redis

#: Keys that stay where they are found are looked for in steps of so many.
_COUNT = 5_000
#: What the keys of SKUs begin with: no other key is swapped.
_OF_SKUS = (b"stock:{", b"availability:{")
#: The keys that only a space has that workers use, or have used.
_LIVE_KEYS = (CHECKPOINT_KEY, MARKS_KEY)


class Switched(StrEnum):
    """What came of an attempt to switch."""

    DONE = "switched"
    LOCK = "lock"
    """Another rebuild has taken over."""
    SERVER = "server"
    """It is not the run of the server that was written to."""
    LOST = "lost"
    """The shadow does not say that it has all that was written to it."""
    DIFFERING = "differing"
    """SKUs of it are known to differ from Postgres."""
    BEHIND = "behind"
    """The workers have applied more than the shadow has."""
    LIVE = "live"
    """Another stack uses the shadow's database."""
    MARKS = "marks"
    """What channels were told of has changed since it was looked at."""


#: Why a database is no shadow.
_IN_USE = (
    "Database {number} of Redis is in use: workers have written to it. If it is another stack's, "
    "rebuild in place, or give one of the two another database (STOCKWIRE_REDIS_URL); if it was "
    "left there by --keep and nobody needs it, `redis-cli -n {number} FLUSHDB`."
)

#: What waiting does not mend.
_FINAL = {
    Switched.LOCK: LOCK_LOST,
    Switched.SERVER: f"{REFUSALS['server']} {AGAIN}",
    Switched.LOST: f"{REFUSALS['lost']} {AGAIN}",
}

#: What a record says of itself that is a shadow's (`mode`).
IN_SHADOW = "shadow"

#: The fact of a record that was switched with its shadow, until channels are told and the old key
#: space is gone; and what it says if that one is to stay.
SWITCHED, KEEP = "switched", "keep"
_DROP = "drop"


def database_of(url: str) -> int:
    """The number of the database in a Redis URL."""
    return int(urlsplit(url).path.strip("/") or 0)


def url_of(url: str, database: int) -> str:
    """The URL of another database of the same Redis."""
    return urlsplit(url)._replace(path=f"/{database}").geturl()


class ShadowSpace:
    """The live database and its shadow; every method raises `Outage` without Redis.

    Attributes:
        live: the client of the database that readers and workers use.
        shadow: the client of the other one.
    """

    def __init__(self, url: str, database: int | None = None) -> None:
        """Use this database as the shadow; by default the next one."""
        self._number = database_of(url)
        self._other = self._number + 1 if database is None else database
        self.url = url_of(url, self._other)
        self.live = open_redis(url)
        self.shadow = open_redis(self.url)

    def close(self) -> None:
        """Close the connections."""
        self.live.close()
        self.shadow.close()

    def check(self) -> bool:
        """Whether a rebuild has begun there.

        Raises:
            RebuildError: there can be no shadow.
        """
        with redis_outages():
            if self.live.info("cluster").get("cluster_enabled"):
                raise RebuildError(
                    "Redis Cluster has one database only; rebuild in place, without --shadow."
                )
            try:
                size = self.shadow.dbsize()
            except ResponseError as exc:
                raise RebuildError(
                    f"Redis has no database {self._other} ({exc}); raise `databases` in its "
                    "configuration, or rebuild in place."
                ) from exc
            if size and size == self.shadow.exists(*OWN_KEYS[1:]):
                # An audit's last word, written after another run had emptied it.
                size -= self.shadow.delete(*OWN_KEYS[1:])
            if not size:
                self._check_memory()
                return False
            facts: dict[Any, Any] = self.shadow.hgetall(REBUILD_KEY)
            if self.shadow.exists(*_LIVE_KEYS) or SWITCHED.encode() in facts:
                raise RebuildError(_IN_USE.format(number=self._other))
            if facts.get(b"mode") != IN_SHADOW.encode():
                raise RebuildError(
                    f"Database {self._other} of Redis holds {size:,} keys that are not of a "
                    "rebuild in a shadow that can go on; if nobody needs them, "
                    f"`redis-cli -n {self._other} FLUSHDB`."
                )
        return True

    def clear(self, session: Session) -> None:
        """Empty the shadow, without holding Redis up.

        Raises:
            RebuildError: another rebuild has taken over, or another stack uses its database.
        """
        keys = (LOCK_KEY, REBUILD_KEY, *_LIVE_KEYS)
        reply = Space(self.live).run("empty.lua", keys, self._number, self._other, session.owner)
        if reply == b"live":
            raise RebuildError(_IN_USE.format(number=self._other))
        if reply != b"emptied":
            raise RebuildError(LOCK_LOST)

    def kept_keys(self) -> list[bytes]:
        """Keys of the live space that are not of a SKU: they stay when the spaces are switched.

        It takes a fraction of a second per million keys. Ours are among them also if they are not
        there: they may be written before the switch.
        """
        with redis_outages():
            found = {
                key for key in self.live.scan_iter(count=_COUNT) if not key.startswith(_OF_SKUS)
            }
        first = [name.encode() for name in (LOCK_KEY, *_LIVE_KEYS, REFUSALS_KEY)]
        return [*first, *sorted(found - {name.encode() for name in OWN_KEYS} - {*first})]

    def switch(
        self,
        session: Session,
        keys: Sequence[bytes],
        marks: Mapping[int, bytes],
        positions: Mapping[str, str],
        *,
        keep: bool,
    ) -> Switched:
        """Let readers and workers have the shadow, at one moment, if it has all they have.

        Args:
            session: who must still have the lock, and the server that was written to.
            keys: as `kept_keys` found them.
            marks: as they were when it was seen that no channel is being told.
            positions: how far the shadow must say that it is, by part.
            keep: noted for whoever finishes it: the old key space is to stay.

        Raises:
            RebuildError: the shadow may lack some of what was written, or another rebuild has
                taken over.
        """
        told = {str(number): text.decode() for number, text in marks.items()}
        reply = Space(self.live).run(
            "switch.lua",
            [REBUILD_KEY, DIFFERING_KEY, *keys],
            *(self._number, self._other, *session, KEEP if keep else _DROP),
            orjson.dumps(told),
            *chain.from_iterable(positions.items()),
        )
        switched = Switched(reply.decode())
        if switched is Switched.LIVE:
            raise RebuildError(_IN_USE.format(number=self._other))
        if switched in _FINAL:
            raise RebuildError(_FINAL[switched])
        return switched

    def _check_memory(self) -> None:
        memory = self.live.info("memory")
        used, limit = int(memory["used_memory"]), int(memory.get("maxmemory", 0))
        whole = limit or int(memory.get("total_system_memory", 0))
        if whole and 2 * used > whole:
            raise RebuildError(
                f"A second key space needs about {used / 2**20:,.0f} MB more, and Redis may use "
                f"{whole / 2**20:,.0f} MB; raise maxmemory, or rebuild in place."
            )
