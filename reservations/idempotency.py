"""The same key gives the same answer; a key belongs to one caller and to one request."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from reservations.basket import (
    MOST_CHARACTERS,
    Answer,
    Closed,
    Granted,
    Held,
    Reason,
    Refused,
    Reserve,
    Short,
)
from reservations.changed import Changed
from reservations.pool import outages
from sql.queries import load_queries

#: How long keys and marks of consumers are kept, in seconds. A caller does not ask again after so
#: long, and Kafka does not deliver again: its topics keep events for less.
RETENTION_SECONDS = 14 * 24 * 3600.0
#: Rows that one statement removes: short transactions, whatever there is to be removed.
_CLEANED_AT_ONCE = 5_000

_QUERIES = load_queries()
_CLEAN = MappingProxyType(
    {name: _QUERIES[name] for name in ("clean_idempotency_keys", "clean_processed_events")}
)
_MARK_PROCESSED = _QUERIES["mark_processed"]


def check_names(**names: str) -> None:
    """Refuse a caller, a key or a reference that cannot be kept.

    Raises:
        ValueError: says which.
    """
    for name, text in names.items():
        if not 1 <= len(text) <= MOST_CHARACTERS:
            raise ValueError(f"{name} must have 1 to {MOST_CHARACTERS} characters")


def digest(action: str, **parts: Any) -> bytes:
    """SHA-256 of a request: what is asked for, without who asks and under which key."""
    text = orjson.dumps({"action": action, **parts}, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).digest()


def digest_of(request: Reserve) -> bytes:
    """Of a basket. The order of its lines says nothing, that of its warehouses does."""
    return digest(
        "reserve",
        reference=request.reference,
        lines=sorted((line.sku, line.quantity) for line in request.lines),
        hold_seconds=request.hold_seconds,
        sourcing=request.sourcing,
        warehouses=request.warehouses,
    )


def replayed(wanted: bytes, request: bytes, answer: Mapping[str, Any]) -> Answer | Changed:
    """The answer that stands under a key.

    Args:
        wanted: the digest of the request at hand.
        request: the digest of the one that was answered.
        answer: as it is kept.
    """
    if request != wanted:
        return Refused(Reason.KEY_REUSED)
    return decode(answer)


def encode(answer: Refused | Closed | Changed) -> str:
    """An answer as it is kept, of those that Postgres does not write itself."""
    if isinstance(answer, Refused):
        kept: dict[str, Any] = {
            "kind": "refused",
            "reason": answer.reason,
            "short": [
                {"sku": short.sku, "wanted": short.wanted, "available": short.available}
                for short in answer.short
            ],
        }
    else:
        units = [
            {"sku": sku, "warehouse": warehouse, "row_version": version}
            for (sku, warehouse), version in answer.versions.items()
        ]
        kept = {"kind": "changed", "units": units}
        if isinstance(answer, Closed):
            kept |= {"kind": "closed", "reservation": answer.reservation}
    return orjson.dumps(kept).decode()


def decode(kept: Mapping[str, Any]) -> Answer | Changed:
    """An answer from how it is kept."""
    match kept["kind"]:
        case "granted":
            return Granted(
                UUID(kept["reservation"]),
                tuple(
                    Held(unit["sku"], unit["warehouse"], unit["quantity"], unit["row_version"])
                    for unit in kept["units"]
                ),
                datetime.fromisoformat(kept["held_until"]),
            )
        case "closed":
            return Closed(UUID(kept["reservation"]), _versions(kept["units"]))
        case "changed":
            return Changed(_versions(kept["units"]))
        case _:
            return Refused(
                Reason(kept["reason"]),
                tuple(
                    Short(line["sku"], line["wanted"], line["available"]) for line in kept["short"]
                ),
            )


async def first_time(connection: AsyncConnection, event_id: str, consumer: str) -> bool:
    """Whether a consumer has not seen an event before; note it, in the transaction at hand.

    Of two at once, one waits until the other one has committed or not.
    """
    cursor = await connection.execute(_MARK_PROCESSED, {"event_id": event_id, "consumer": consumer})
    return cursor.rowcount == 1


async def clean_up(
    pool: AsyncConnectionPool, retention_seconds: float = RETENTION_SECONDS
) -> Mapping[str, int]:
    """Remove what is older, in portions; how many rows went, by the name of the query.

    Raises:
        Outage: Postgres takes no work; what was removed stays removed.
    """
    removed = dict.fromkeys(_CLEAN, 0)
    with outages():
        async with pool.connection() as connection:
            for name, query in _CLEAN.items():
                portion = _CLEANED_AT_ONCE
                while portion == _CLEANED_AT_ONCE:
                    cursor = await connection.execute(
                        query, {"seconds": retention_seconds, "rows": _CLEANED_AT_ONCE}
                    )
                    portion = cursor.rowcount
                    removed[name] += portion
    return removed


def _versions(units: list[dict[str, Any]]) -> Mapping[tuple[str, str], int]:
    return MappingProxyType(
        {(unit["sku"], unit["warehouse"]): unit["row_version"] for unit in units}
    )
