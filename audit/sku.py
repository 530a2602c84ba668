"""Reads one SKU from Postgres and from Redis."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from redis import Redis

from audit.facts import CommittedRow, SkuFacts
from audit.postgres import overrides_in, policies_of, reading
from inventory.projection import SkuState
from inventory.stock import StockRow, milliseconds
from projections.outage import redis_outages
from projections.states import read_states
from sql.queries import load_queries
from stockwire_client.names import availability_key

_QUERIES = load_queries()


def read_facts(conninfo: str, sku: str) -> SkuFacts:
    """What Postgres holds of a SKU, and the policies, in one repeatable-read snapshot.

    Raises:
        Outage: Postgres does not answer.
        AuditError: it refuses.
    """
    with reading(conninfo) as connection:
        about = {"sku": sku}
        (moment,) = connection.execute(_QUERIES["explain_moment"]).fetchall()
        changed = dict(connection.execute(_QUERIES["channel_updates"]).fetchall())
        policies = tuple(
            replace(policy, committed_us=changed[policy.name]) for policy in policies_of(connection)
        )
        overrides = overrides_in(connection.execute(_QUERIES["channel_overrides_of_sku"], about))
        own = connection.execute(_QUERIES["override_updates_of_sku"], about).fetchall()
        rows: dict[str, CommittedRow] = {}
        for row in connection.execute(_QUERIES["stock_of_sku"], about):
            _, code, on_hand, reserved, safety, incoming, arrives, version, updated_at, *why = row
            rows[code] = CommittedRow(
                StockRow(
                    on_hand,
                    reserved,
                    safety,
                    incoming,
                    None if arrives is None else milliseconds(arrives),
                    version,
                    *why,
                ),
                round(updated_at.timestamp() * 1_000_000),
            )
    own_overrides = overrides.get(sku, {})
    return SkuFacts(
        sku,
        moment[0],
        rows,
        policies,
        {name: own_overrides[name]._replace(committed_us=at_us) for name, at_us in own},
    )


def read_shown(redis: Redis, sku: str) -> dict[str, str]:
    """A SKU's hash as storefronts read it; empty if it is listed nowhere.

    Args:
        redis: a client with `decode_responses=False`.
        sku: the SKU.

    Raises:
        Outage: Redis does not answer.
    """
    with redis_outages():
        fields = cast("Mapping[bytes, bytes]", redis.hgetall(availability_key(sku)))
    return {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in fields.items()
    }


def read_state(redis: Redis, sku: str) -> SkuState:
    """The working state of a SKU; without levels where Redis does not know it.

    Raises:
        Outage: Redis does not answer.
        ValueError, ResponseError: no worker of ours has written all of it
            (`audit.projection.UNREADABLE` has both).
    """
    (state,) = read_states(redis, [sku])
    if state.unreadable:
        raise ValueError(f"no worker has written {', '.join(map(repr, state.unreadable))}")
    return state
