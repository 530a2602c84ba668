"""The second key space: another logical database of the same Redis, and the switch to it."""

from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import urlsplit

import orjson
from redis import Redis
from redis.exceptions import ResponseError

from inventory.errors import RebuildError
from projections.checkpoint import CHECKPOINT_KEY
from projections.marks import MARKS_KEY
from projections.outage import redis_outages
from projections.space import Space
from rebuild.progress import DIFFERING_KEY, LOCK_KEY, REBUILD_KEY, SUSPECTS_KEY

#: Keys that stay where they are found are looked for in steps of so many.
_COUNT = 5_000


class Switched(StrEnum):
    """What came of an attempt to switch."""

    DONE = "switched"
    BEHIND = "behind"
    """The workers have applied more than the shadow has."""
    MARKS = "marks"
    """What channels were told of has changed since it was looked at."""


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
        self.live = Redis.from_url(url)
        self.shadow = Redis.from_url(self.url)

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
            if not size:
                self._check_memory()
                return False
            if not self.shadow.exists(REBUILD_KEY):
                raise RebuildError(
                    f"Database {self._other} of Redis holds {size:,} keys that are not of a "
                    "rebuild that can go on; if nobody needs them, "
                    f"`redis-cli -n {self._other} FLUSHDB`."
                )
        return True

    def clear(self) -> None:
        """Empty the shadow."""
        with redis_outages():
            self.shadow.flushdb(asynchronous=True)

    def kept_keys(self) -> list[str]:
        """Keys of the live space that are not of a SKU: they stay when the spaces are switched."""
        with redis_outages():
            found = {key.decode() for key in self.live.scan_iter(match="stockwire:*", count=_COUNT)}
        own = {REBUILD_KEY, SUSPECTS_KEY, DIFFERING_KEY, CHECKPOINT_KEY, MARKS_KEY}
        return [CHECKPOINT_KEY, MARKS_KEY, *sorted((found | {LOCK_KEY}) - own)]

    def switch(
        self, keys: list[str], marks: Mapping[int, bytes], positions: Mapping[str, int]
    ) -> Switched:
        """Let readers and workers have the shadow, at one moment, if it has all they have.

        Args:
            keys: as `kept_keys` found them.
            marks: as they were when it was seen that no channel is being told.
            positions: how far the shadow is, by part.
        """
        arguments: list[str | int] = [self._number, self._other]
        arguments.append(
            orjson.dumps({str(n): text.decode() for n, text in marks.items()}).decode()
        )
        for part, position in positions.items():
            arguments += (part, position)
        reply = Space(self.live).run("switch.lua", keys, *arguments)
        return Switched(reply.decode())

    def drop(self) -> None:
        """Throw away what the shadow's database holds, without holding Redis up."""
        self.clear()

    def _check_memory(self) -> None:
        memory = self.live.info("memory")
        used, limit = int(memory["used_memory"]), int(memory.get("maxmemory", 0))
        whole = limit or int(memory.get("total_system_memory", 0))
        if whole and 2 * used > whole:
            raise RebuildError(
                f"A second key space needs about {used / 2**20:,.0f} MB more, and Redis may use "
                f"{whole / 2**20:,.0f} MB; raise maxmemory, or rebuild in place."
            )
