"""Whether the database still knows all that was told of it."""

from guard.facts import ConnectFacts, Facts, LineStop, PostgresFacts, RedisFacts, Unread
from guard.finding import Finding, critical, ok, warning

_WHY = (
    "versions that were told already would be drawn again, so every change from here to there is "
    "dropped as stale: channels keep selling what is gone"
)
RECOVER_DATABASE = "stockwire recover database"

#: Unknown is not 0: nothing follows from it, but it must be said.
VERSION_UNREAD = "the version sequence inventory.stock_version cannot be read"
GRANT_VERSION = "GRANT USAGE ON SEQUENCE inventory.stock_version TO stockwire_app"


def set_back(
    *,
    stock_version: int | None,
    told_version: int | None,
    wal_position: int,
    read_position: int | None,
) -> str | None:
    """Why the database must be older than what was told downstream; None when it is not.

    The told figures must have been read before the database's own: both only rise.

    Args:
        stock_version: the last version that the database has drawn; None when it is unknown.
        told_version: the highest that Redis has applied; None when it knows none.
        wal_position: how far the database has written its WAL.
        read_position: how far the connector, or its slot, has read it; None when that is unknown.
    """
    # A delete is told with the row's version + 1, which the sequence never draws.
    if stock_version is not None and told_version is not None and told_version > stock_version + 1:
        return (
            f"the database has drawn stock versions up to {stock_version}, and Redis was told "
            f"{told_version}"
        )
    if read_position is not None and read_position > wal_position:
        return (
            f"the database has written {wal_position} bytes of WAL, and {read_position} were "
            "read from it"
        )
    return None


def why_set_back(
    database: PostgresFacts, connect: ConnectFacts | Unread, redis: RedisFacts | Unread
) -> str | None:
    """`set_back`, of what is known; parts that cannot be read say nothing."""
    told = None if isinstance(redis, Unread) else redis.checkpoint.version
    read = [None if isinstance(connect, Unread) else connect.offset]
    if database.slot is not None:
        read.append(database.slot.confirmed)
    return set_back(
        stock_version=database.stock_version,
        told_version=told,
        wal_position=database.wal_position,
        read_position=max((position for position in read if position is not None), default=None),
    )


def restored(facts: Facts) -> list[Finding]:
    """The database was not restored from an old backup."""
    if isinstance(facts.postgres, Unread):
        return []
    why = why_set_back(facts.postgres, facts.connect, facts.redis)
    if why is not None:
        return [critical("versions", f"{why}: it was restored", _WHY, RECOVER_DATABASE)]
    if facts.postgres.stock_version is None:
        return [
            warning(
                "versions",
                VERSION_UNREAD,
                "a database that was restored from an old backup would not be recognised by it",
                f"as the owner: {GRANT_VERSION}; if there is no such sequence: make up",
            )
        ]
    return [ok("versions", f"the database is not behind what was told ({_known(facts)})")]


def line_stopped(facts: Facts) -> list[Finding]:
    """The line was not stopped for that."""
    if isinstance(facts.postgres, Unread) or facts.postgres.stopped is None:
        return []
    return [stopped_finding(facts.postgres.stopped)]


def stopped_finding(stop: LineStop) -> Finding:
    """What is said while the line stands still."""
    return critical(
        "versions",
        f"the line is stopped since {stop.since:%Y-%m-%d %H:%M:%S %Z}: {stop.reason}",
        _WHY,
        RECOVER_DATABASE,
    )


def _known(facts: Facts) -> str:
    known = "" if isinstance(facts.postgres, Unread) else f"drawn {facts.postgres.stock_version}"
    if isinstance(facts.redis, Unread) or facts.redis.checkpoint.version is None:
        return f"{known}, Redis knows none"
    return f"{known}, told {facts.redis.checkpoint.version}"
