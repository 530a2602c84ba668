"""The end of a hold: its units are sold, or free again."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from reservations.basket import Closed, Reason, Refused, Short
from reservations.idempotency import check_names, decode, digest, encode, replayed
from reservations.pool import milliseconds
from reservations.trying import Conflicted, Tally, keep_trying
from sql.queries import load_queries

_QUERIES = load_queries()
_LOCK = _QUERIES["closing_lock"]
_LOCK_STOCK = _QUERIES["closing_lock_stock"]
_VIEW = _QUERIES["closing_view"]
_CLOSE = _QUERIES["reservation_close"]
_KEEP = _QUERIES["idempotency_keep"]
_PATIENCE = _QUERIES["reserve_patience"]


@dataclass(frozen=True, slots=True)
class How:
    """A way to end a hold.

    Attributes:
        reason: of the change of the rows of stock, and what is asked for.
        status: of the reservation afterwards.
        done: statuses in which what is asked for is so already.
        refused: what to say of the other statuses, by status.
        in_time: only before the hold is due.
    """

    reason: str
    status: str
    done: frozenset[str]
    refused: dict[str, Reason]
    in_time: bool = False


CONFIRM = How(
    "confirm",
    "confirmed",
    frozenset({"confirmed"}),
    {"released": Reason.CLOSED, "expired": Reason.EXPIRED},
    in_time=True,
)
RELEASE = How(
    "release", "released", frozenset({"released", "expired"}), {"confirmed": Reason.CLOSED}
)


async def close(
    pool: AsyncConnectionPool,
    reservation: UUID,
    how: How,
    caller: str,
    key: str,
    *,
    patience_seconds: float,
    tally: Tally,
) -> Closed | Refused:
    """End a hold. Two round trips; the answer is kept under the key unless it is CONFLICT.

    Raises:
        ValueError: the caller or the key cannot be kept.
        psycopg.Error: Postgres takes no work.
    """
    check_names(caller=caller, key=key)
    request = digest(how.reason, reservation=reservation)
    parameters: dict[str, Any] = {
        "reservation": reservation,
        "reservations": [reservation],
        "caller": caller,
        "key": key,
        "request": request,
        "status": how.status,
        "reason": how.reason,
    }
    patience = {"lock": milliseconds(patience_seconds)}

    async def once(connection: AsyncConnection) -> Closed | Refused:
        async with connection.pipeline(), connection.transaction():
            await connection.execute(_PATIENCE, patience)
            await connection.execute(_LOCK, parameters)
            await connection.execute(_LOCK_STOCK, parameters)
            view = await connection.execute(_VIEW, parameters)
            rows = await view.fetchall()
            first, before = rows[0][:2]
            if before is not None:
                answer = replayed(request, first, before)
                assert isinstance(answer, Closed | Refused)
                return answer
            known = _decide(reservation, how, rows)
            if known is not None:
                await connection.execute(_KEEP, {**parameters, "answer": encode(known)})
                return known
            cursor = await connection.execute(_CLOSE, parameters)
            row = await cursor.fetchone()
            assert row is not None
            closed = decode(row[0])
            assert isinstance(closed, Closed)
            return closed

    try:
        return await keep_trying(pool, once, patience_seconds, tally)
    except Conflicted:
        return Refused(Reason.CONFLICT)


def _decide(reservation: UUID, how: How, rows: list[tuple[Any, ...]]) -> Closed | Refused | None:
    """What there is to say without doing anything, of the rows of `closing_view`; else None."""
    status, due = rows[0][2:4]
    if status is None:
        return Refused(Reason.UNKNOWN_RESERVATION)
    if status in how.done:
        # The rows may have gone on since: whoever waits for these versions has seen the end too.
        versions = {
            (sku, warehouse): version
            for *_, sku, warehouse, _, _, version in rows
            if version is not None
        }
        return Closed(reservation, versions)
    if status in how.refused:
        return Refused(how.refused[status])
    if how.in_time:
        if due:
            return Refused(Reason.EXPIRED)
        # A count may have found less than was held.
        short = tuple(
            Short(sku, quantity, on_hand or 0)
            for *_, sku, _, quantity, on_hand, _ in rows
            if (on_hand or 0) < quantity
        )
        if short:
            return Refused(Reason.INSUFFICIENT, short)
    return None
