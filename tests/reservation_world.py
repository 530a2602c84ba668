"""Reservations on a database of a test's own: what is asked for, and what must always hold."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks

from reservations.basket import Granted, Line, Reason, Refused, Reserve
from reservations.events import read_event
from reservations.pool import LOCK_SECONDS, open_pool
from reservations.service import Reservations
from reservations.trying import log_no_retries

T = TypeVar("T")

#: Generous: the machine may be shared and slow. What is granted is exact, time is not.
PATIENCE = 600.0


def basket(*lines: tuple[str, int], **given: Any) -> Reserve:
    """A request under a key of its own."""
    asked = {"caller": "web", "key": uuid4().hex, "reference": "ORD-1", **given}
    return Reserve(lines=tuple(Line(*line) for line in lines), **asked)


def run(
    conninfo: str,
    work: Callable[[Reservations], Awaitable[T]],
    *,
    size: int = 8,
    patience: float = PATIENCE,
    lock_seconds: float = LOCK_SECONDS,
    **given: Any,
) -> T:
    """What `work` gives, on a pool of its own."""

    async def main() -> T:
        log_no_retries()
        async with open_pool(
            conninfo,
            size=size,
            wait_seconds=PATIENCE,
            statement_seconds=PATIENCE,
            lock_seconds=lock_seconds,
        ) as pool:
            return await work(Reservations(pool, patience_seconds=patience, **given))

    hooks = get_on_retry_hooks()
    try:
        return asyncio.run(main())
    finally:
        set_on_retry_hooks(hooks)


def put(conninfo: str, rows: Iterable[tuple[str, str, int]]) -> None:
    """Only these rows of stock, (SKU, warehouse, units), and nothing that was reserved before."""
    with psycopg.connect(conninfo) as connection:
        for table in ("reservation", "idempotency_key", "processed_event", "outbox", "stock"):
            connection.execute(f"DELETE FROM inventory.{table}")
        connection.cursor().executemany(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, %s)", list(rows)
        )


def query(conninfo: str, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(text, parameters).fetchall()


def units(conninfo: str) -> dict[tuple[str, str], tuple[int, int]]:
    """(on hand, reserved) by SKU and warehouse."""
    rows = query(conninfo, "SELECT sku, warehouse, on_hand, reserved FROM inventory.stock")
    return {(sku, warehouse): (on_hand, reserved) for sku, warehouse, on_hand, reserved in rows}


def events(conninfo: str) -> Iterator[Any]:
    """What stands in the outbox, each held against its model."""
    for aggregate, key, type_, payload in query(
        conninfo, "SELECT aggregatetype, aggregateid, type, payload FROM inventory.outbox"
    ):
        event = read_event(type_, payload)
        assert (event.aggregate, event.aggregate_id) == (aggregate, key)
        yield event


def told(conninfo: str) -> Counter[str]:
    """How many events there are of each type."""
    return Counter(event.type for event in events(conninfo))


def assert_sound(conninfo: str) -> None:
    """Nothing is oversold; what is held is reserved; what was done was told once."""
    assert not query(
        conninfo, "SELECT sku, warehouse FROM inventory.stock WHERE reserved > on_hand"
    )
    held = query(
        conninfo,
        "SELECT l.sku, l.warehouse, sum(l.quantity) FROM inventory.reservation_line l "
        "JOIN inventory.reservation r ON r.id = l.reservation WHERE r.status = 'held' "
        "GROUP BY l.sku, l.warehouse",
    )
    assert {(sku, warehouse): quantity for sku, warehouse, quantity in held} == {
        row: reserved for row, (_, reserved) in units(conninfo).items() if reserved
    }
    statuses = query(conninfo, "SELECT id, status FROM inventory.reservation")
    expected: Counter[tuple[str, str]] = Counter()
    for reservation, status in statuses:
        expected[str(reservation), "inventory.reserved"] += 1
        if status != "held":
            expected[str(reservation), f"inventory.{status}"] += 1
    found = Counter(
        (event.aggregate_id, event.type)
        for event in events(conninfo)
        if event.aggregate == "reservation" and event.type != "inventory.reservation.failed"
    )
    assert found == expected


def tally(answers: Iterable[Granted | Refused]) -> Counter[str]:
    """How many were granted, and how many refused for which reason."""
    return Counter(
        "granted" if isinstance(answer, Granted) else answer.reason.value for answer in answers
    )


INSUFFICIENT, CONFLICT = Reason.INSUFFICIENT.value, Reason.CONFLICT.value
