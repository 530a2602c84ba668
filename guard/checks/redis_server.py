"""Whether Redis keeps what it is given."""

from guard.facts import Facts, Unread
from guard.finding import Finding, critical, ok, warning

_MINIMUM = (6, 2)
_CLI = "redis-cli -u $STOCKWIRE_REDIS_URL"

#: Of maxmemory, the part that is a warning, and the part that is an alarm.
MEMORY_WARNING, MEMORY_CRITICAL = 0.8, 0.95

#: Bytes of the stream of changes that a replica may be behind.
REPLICA_BYTES = 16 * 2**20


def answers(facts: Facts) -> list[Finding]:
    """Redis can be read, and is no replica that a worker writes to."""
    redis = facts.redis
    if isinstance(redis, Unread):
        return [
            critical(
                "redis",
                f"cannot be read: {redis.why}",
                "storefronts get no answer, availability channels wait; WMS and ERP go on",
                "stockwire status, stockwire logs redis; then make up",
            )
        ]
    version = ".".join(map(str, redis.version))
    if redis.version < _MINIMUM:
        return [
            critical(
                "redis",
                f"version {version} is older than 6.2",
                "its scripts may fail",
                "install redis-server or valkey-server of a later version",
            )
        ]
    return [ok("redis", f"answers, version {version}")]


def policy(facts: Facts) -> list[Finding]:
    """No key is evicted."""
    redis = facts.redis
    if isinstance(redis, Unread):
        return []
    if redis.policy == "noeviction":
        return [ok("redis", "maxmemory-policy is noeviction")]
    return [
        critical(
            "redis",
            f"maxmemory-policy is {redis.policy}",
            "when memory is short, stock is thrown away without a word",
            f"{_CLI} CONFIG SET maxmemory-policy noeviction, and in its file; then "
            "stockwire audit --once --heal",
        )
    ]


def memory(facts: Facts) -> list[Finding]:
    """There is room."""
    redis = facts.redis
    if isinstance(redis, Unread):
        return []
    used = f"{redis.used / 2**20:,.0f} MB used"
    if not redis.maxmemory:
        return [ok("redis", f"{used}, no maxmemory")]
    part = redis.used / redis.maxmemory
    if part < MEMORY_WARNING:
        return [ok("redis", f"{used}, {part:.0%} of maxmemory")]
    make = critical if part >= MEMORY_CRITICAL else warning
    return [
        make(
            "redis",
            f"{used}, {part:.0%} of maxmemory",
            "when it is full every write is refused, and availability stands still",
            f"{_CLI} CONFIG SET maxmemory to more",
        )
    ]


def persistence(facts: Facts) -> list[Finding]:
    """What was written survives a restart."""
    redis = facts.redis
    if isinstance(redis, Unread):
        return []
    if redis.write_error is not None:
        return [
            critical(
                "redis",
                f"it cannot write to its disk ({redis.write_error})",
                "it refuses writes, and a restart loses what is not on disk",
                "make room on its disk; stockwire logs redis",
            )
        ]
    if redis.append_only:
        return [ok("redis", "append-only file is on")]
    return [
        warning(
            "redis",
            "append-only file is off",
            "a restart empties it, and it is filled again from Kafka while storefronts wait",
            f"{_CLI} CONFIG SET appendonly yes, and in its file",
        )
    ]


def role(facts: Facts) -> list[Finding]:
    """It takes writes, and replicas follow closely."""
    redis = facts.redis
    if isinstance(redis, Unread):
        return []
    if redis.role != "master":
        link = "up" if redis.link_up else "down"
        return [
            critical(
                "redis",
                f"it is a {redis.role}, its link {link}",
                "it refuses what workers write",
                "point STOCKWIRE_REDIS_URL at the primary, or REPLICAOF NO ONE here",
            )
        ]
    if redis.replica_lag is not None and redis.replica_lag > REPLICA_BYTES:
        return [
            warning(
                "redis",
                f"a replica is {redis.replica_lag / 2**20:.0f} MB behind",
                "after a failover that much is told anew, from Kafka",
                "see the replica's log and its network",
            )
        ]
    return [ok("redis", "is a primary")]
