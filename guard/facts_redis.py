"""Reads what there is to know of Redis."""

import time
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from guard.facts import RedisFacts, Unread
from inventory.errors import Outage
from projections.checkpoint import read_checkpoints

_SECONDS = 3.0


def open_redis(url: str) -> Redis:
    """A client that gives up soon."""
    return Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)


def read_redis(client: Redis) -> RedisFacts | Unread:
    """Look at Redis."""
    try:
        # First of all: the version that Postgres is compared with must be the older look.
        checkpoint = read_checkpoints(client)
        asked = time.time()
        seconds, microseconds = client.time()
        answered = time.time()
        info: dict[str, Any] = client.info()
    except (RedisError, Outage) as exc:
        return Unread(" ".join(str(exc).split()))
    broken = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if info.get(name) == "err"
    ]
    return RedisFacts(
        version=tuple(int(part) for part in str(info["redis_version"]).split(".")),
        policy=str(info["maxmemory_policy"]),
        maxmemory=int(info["maxmemory"]),
        used=int(info["used_memory"]),
        append_only=bool(info["aof_enabled"]),
        write_error=", ".join(broken) or None,
        role=str(info["role"]),
        link_up=info.get("master_link_status", "up") == "up",
        replica_lag=_replica_lag(info),
        skew=seconds + microseconds / 1e6 - (asked + answered) / 2,
        checkpoint=checkpoint,
    )


def _replica_lag(info: dict[str, Any]) -> int | None:
    """Bytes by which the slowest connected replica is behind; None without any."""
    replicas = [
        value
        for name, value in info.items()
        if name.startswith("slave") and isinstance(value, dict) and "offset" in value
    ]
    if not replicas:
        return None
    return max(int(info["master_repl_offset"]) - int(replica["offset"]) for replica in replicas)
