"""Whole passes of the stack's own auditor: what they cost, and that it has come to rest."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis

from audit.continuous.patrol import AUDIT_KEY
from bench.figures import Figure
from bench.scenarios import Bench
from compose.embedded.processes import resident_bytes
from inventory.errors import Outage

_MB = 2**20
_POLL_SECONDS = 0.5
#: A pass of a million rows takes two minutes; the first one may begin before all rows are there.
_PATIENCE = 900.0


@dataclass(frozen=True, slots=True)
class AuditCost:
    """One pass.

    Attributes:
        cpu_seconds: of the auditor.
        redis_cpu_seconds: of Redis meanwhile, which has little else to do.
        resident: bytes of the auditor; None where it is not known.
    """

    rows: int
    seconds: float
    cpu_seconds: float
    redis_cpu_seconds: float
    drift: int
    resident: int | None


def caught_up(run: Bench, rows: int) -> None:
    """Wait until the auditor has read what the channels were told of all rows, and compared it.

    It reads it at its leisure, some minutes after a million rows were written: a second load beside
    whatever else is measured.

    Raises:
        Outage: it has not in a quarter of an hour.
    """
    with closing(Redis.from_url(str(run.settings.redis_url))) as redis:
        _whole_pass(run, redis, rows)


def audit_pass(run: Bench, rows: int) -> AuditCost:
    """Wait for a pass that was begun with all rows there.

    Raises:
        Outage: there was none in a quarter of an hour.
    """
    with closing(Redis.from_url(str(run.settings.redis_url))) as redis:
        found, used = _whole_pass(run, redis, rows)
    pid = run.stack.worker_pids().get("auditor")
    return AuditCost(
        found["rows"],
        found["pass_seconds"],
        found["pass_cpu_seconds"],
        used,
        found["drift"],
        None if pid is None else resident_bytes(pid),
    )


def audit_figures(cost: AuditCost) -> Iterator[Figure]:
    """A million rows in 120 s, at under 20% of a core."""
    scenario = f"auditor, {cost.rows:,} rows"
    million = 1_000_000 / max(1, cost.rows)
    share = 100 * cost.cpu_seconds / cost.seconds
    yield Figure(scenario, "a pass over a million rows", cost.seconds * million, "s", at_most=120)
    yield Figure(scenario, "auditor, of one core", share, "%", at_most=20)
    redis = 100 * cost.redis_cpu_seconds / cost.seconds
    yield Figure(scenario, "Redis meanwhile, of one core", redis, "%")
    if cost.resident is not None:
        yield Figure(scenario, "auditor, RSS", cost.resident / _MB, "MB")
    yield Figure(scenario, "drift", cost.drift, "SKUs", at_most=0)


def _whole_pass(run: Bench, redis: Redis, rows: int) -> tuple[dict[str, Any], float]:
    """A pass that was begun with all rows there, and the CPU seconds of Redis meanwhile."""
    begun = _until_passes(run, redis, _figures(redis).get("passes", 0) + 1)
    before = _cpu(redis)
    found = _until_passes(run, redis, begun["passes"] + 1)
    if found["rows"] < rows:
        raise Outage(
            f"The auditor has compared {found['rows']:,} of {rows:,} rows; look at its log."
        )
    return found, _cpu(redis) - before


def _until_passes(run: Bench, redis: Redis, passes: int) -> dict[str, Any]:
    deadline = time.monotonic() + _PATIENCE
    while (found := _figures(redis)).get("passes", 0) < passes:
        if time.monotonic() > deadline:
            raise Outage(f"The auditor has not ended a pass in {_PATIENCE:.0f} s; look at its log.")
        run.tick("the auditor walks")
        time.sleep(_POLL_SECONDS)
    return found


def _figures(redis: Redis) -> dict[str, Any]:
    found = redis.get(AUDIT_KEY)
    return dict(orjson.loads(found)) if isinstance(found, bytes) else {}


def _cpu(redis: Redis) -> float:
    used: Any = redis.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])
