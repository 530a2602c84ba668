"""Versions after a restore: what was told, sequences above it, and every row newer than it."""

from typing import NamedTuple

import orjson
import psycopg

from guard.facts_redis import open_redis
from guard.reading import read_to_end
from guard.steps import Say
from inventory.groups import REPAIR
from inventory.settings import Settings
from inventory.topics import CHANNEL, CHANNEL_SKU, STOCK
from projections.checkpoint import read_checkpoints
from sql.queries import load_queries

_QUERIES = load_queries()

#: Rows that get a new version in one transaction, which keeps others waiting for them.
_PORTION = 5_000


class ToldVersions(NamedTuple):
    """The highest versions downstream, even: those of rows of stock, and those of policies."""

    stock: int
    policy: int


def told_versions(settings: Settings, say: Say) -> ToldVersions:
    """Look what Redis has applied, and what is still in the topics.

    Raises:
        Outage: Redis or Kafka does not answer.
    """
    with open_redis(str(settings.redis_url)) as redis:
        known = read_checkpoints(redis)
    # What is before the checkpoints is known to Redis; if it knows nothing, the topic does.
    start = {} if known.version is None or known.restoring else dict(known.offsets)
    stock = max(known.version or 0, highest(settings.kafka_bootstrap, STOCK, start))
    policy = max(highest(settings.kafka_bootstrap, topic, {}) for topic in (CHANNEL, CHANNEL_SKU))
    told = ToldVersions(_even(stock), _even(policy))
    say(f"versions: stock was told up to {told.stock}, policies up to {told.policy}")
    return told


def highest(bootstrap: str, topic: str, start: dict[tuple[str, int], int]) -> int:
    """The highest version in a topic of Debezium's; 0 when there is none.

    What repairs a ghost of one app has that ghost's version, which is none of Postgres'.
    """
    found = 0
    for message in read_to_end(bootstrap, topic, start):
        value, headers = message.value(), message.headers()
        if value and not (headers and any(name == REPAIR for name, _ in headers)):
            found = max(found, version_of(value))
    return found


def version_of(value: bytes) -> int:
    """The version of an event; 0 for one without, which nobody could apply."""
    try:
        envelope = orjson.loads(value)
        gone = envelope["after"] is None
        version = (envelope["before"] if gone else envelope["after"])["version"]
        return int(version) + gone
    except (ValueError, KeyError, TypeError):
        return 0


def raise_versions(admin: psycopg.Connection, told: ToldVersions, say: Say) -> None:
    """Let the next versions be above those that were told; a sequence is never set back."""
    admin.execute(_QUERIES["raise_stock_version"], {"version": max(told.stock, 2)})
    admin.execute(_QUERIES["raise_policy_version"], {"version": max(told.policy, 2)})
    say("versions: the next ones are above them")


def restamp(admin: psycopg.Connection, told: ToldVersions, say: Say) -> None:
    """Give each row that is not newer than what was told a new version, portion by portion."""
    row = admin.execute(_QUERIES["count_stale_stock"], {"version": told.stock}).fetchone()
    total = 0 if row is None else int(row[0])
    done, place = 0, ("", "")
    while True:
        portion = admin.execute(
            _QUERIES["restamp_stock"],
            {"version": told.stock, "rows": _PORTION, "sku": place[0], "warehouse": place[1]},
        ).fetchone()
        if portion is None:
            break
        place = (portion[0], portion[1])
        done += int(portion[2])
        say(f"versions: {done:,} of {total:,} rows of stock have a new one")
    admin.execute(_QUERIES["restamp_channels"], {"version": told.policy})
    admin.execute(_QUERIES["restamp_overrides"], {"version": told.policy})
    say("versions: every row and every policy is newer than what was told")


def _even(version: int) -> int:
    """Versions of rows are even; a delete is told with an odd one."""
    return version + version % 2
