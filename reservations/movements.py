"""Units that are counted in or out, or carried to another warehouse: small, and told like sales."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeAlias

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from reservations.basket import MOST_UNITS, Reason, Refused, Short
from reservations.changed import Changed
from reservations.events import Adjusted, Event, Transferred, outbox_row
from reservations.idempotency import check_names, digest, encode, replayed
from reservations.pool import milliseconds
from reservations.trying import Conflicted, Tally, keep_trying
from sql.queries import load_queries

_QUERIES = load_queries()
_KEPT = _QUERIES["idempotency_kept"]
_KEEP = _QUERIES["idempotency_keep"]
_LOCK = _QUERIES["movement_lock"]
_ADJUST = _QUERIES["movement_adjust"]
_RECEIVE = _QUERIES["movement_receive"]
_OUTBOX = _QUERIES["outbox_add"]
_PATIENCE = _QUERIES["reserve_patience"]


@dataclass(frozen=True, slots=True)
class Adjust:
    """So many units more, or less. What comes in may be the first of its SKU in the warehouse."""

    action: ClassVar[str] = "adjust"

    sku: str
    warehouse: str
    delta: int
    caller: str
    key: str
    reference: str
    reason: str

    def __post_init__(self) -> None:
        """Refuse what is no change.

        Raises:
            ValueError: says what is wrong with what.
        """
        _check(self.caller, self.key, self.reference, abs(self.delta))


@dataclass(frozen=True, slots=True)
class Transfer:
    """So many units from one warehouse to another one."""

    action: ClassVar[str] = "transfer"

    sku: str
    source: str
    target: str
    quantity: int
    caller: str
    key: str
    reference: str

    def __post_init__(self) -> None:
        """Refuse what is no transfer.

        Raises:
            ValueError: says what is wrong with what.
        """
        _check(self.caller, self.key, self.reference, self.quantity)
        if self.source == self.target:
            raise ValueError("a transfer needs two warehouses")


Movement: TypeAlias = Adjust | Transfer


async def move(
    pool: AsyncConnectionPool, movement: Movement, *, patience_seconds: float, tally: Tally
) -> Changed | Refused:
    """Do it; the answer is kept under the key unless it is CONFLICT.

    Raises:
        psycopg.Error: Postgres takes no work.
    """
    parts = asdict(movement)
    asked = {"caller": parts.pop("caller"), "key": parts.pop("key")}
    request = digest(movement.action, **parts)
    patience = {"lock": milliseconds(patience_seconds)}

    async def once(connection: AsyncConnection) -> Changed | Refused:
        async with connection.transaction():
            await connection.execute(_PATIENCE, patience)
            kept = await (await connection.execute(_KEPT, asked)).fetchone()
            if kept is not None:
                before = replayed(request, *kept)
                assert isinstance(before, Changed | Refused)
                return before
            if isinstance(movement, Adjust):
                answer, event = await _adjust(connection, movement)
            else:
                answer, event = await _transfer(connection, movement)
            if event is not None:
                await connection.execute(_OUTBOX, outbox_row(event))
            kept_as = {**asked, "request": request, "answer": encode(answer)}
            await connection.execute(_KEEP, kept_as)
            return answer

    try:
        return await keep_trying(pool, once, patience_seconds, tally)
    except Conflicted:
        return Refused(Reason.CONFLICT)


async def _adjust(
    connection: AsyncConnection, movement: Adjust
) -> tuple[Changed | Refused, Event | None]:
    sku, warehouse, delta = movement.sku, movement.warehouse, movement.delta
    named = _named(movement)
    if delta < 0:
        free = await _free(connection, sku, warehouse)
        if warehouse not in free:
            return _unknown(sku, -delta), None
        if free[warehouse] + delta < 0:
            return _short(sku, -delta, free[warehouse]), None
    query = _ADJUST if delta < 0 else _RECEIVE
    named |= {"warehouse": warehouse, "delta": delta, "reason": movement.reason}
    row = await (await connection.execute(query, named)).fetchone()
    if row is None:
        return _unknown(sku, abs(delta)), None
    on_hand, version, at = row
    event = Adjusted(
        occurred_at=at,
        caller=movement.caller,
        reference=movement.reference,
        sku=sku,
        warehouse=warehouse,
        delta=delta,
        on_hand=on_hand,
        row_version=version,
        reason=movement.reason,
    )
    return Changed({(sku, warehouse): version}), event


async def _transfer(
    connection: AsyncConnection, movement: Transfer
) -> tuple[Changed | Refused, Event | None]:
    sku, quantity = movement.sku, movement.quantity
    named = _named(movement) | {"reason": movement.action}
    # Both, in their order, before either is changed.
    free = await _free(connection, sku, movement.source, movement.target)
    if movement.source not in free:
        return _unknown(sku, quantity), None
    if free[movement.source] < quantity:
        return _short(sku, quantity, free[movement.source]), None
    arriving = named | {"warehouse": movement.target, "delta": quantity}
    arrived = await (await connection.execute(_RECEIVE, arriving)).fetchone()
    if arrived is None:
        return _unknown(sku, quantity), None
    leaving = named | {"warehouse": movement.source, "delta": -quantity}
    left = await (await connection.execute(_ADJUST, leaving)).fetchone()
    assert left is not None
    event = Transferred(
        occurred_at=left[2],
        caller=movement.caller,
        reference=movement.reference,
        sku=sku,
        source=movement.source,
        target=movement.target,
        quantity=quantity,
        source_version=left[1],
        target_version=arrived[1],
    )
    versions = {(sku, movement.source): left[1], (sku, movement.target): arrived[1]}
    return Changed(versions), event


async def _free(connection: AsyncConnection, sku: str, *warehouses: str) -> dict[str, int]:
    """What nobody holds, by warehouse; the rows are locked."""
    cursor = await connection.execute(_LOCK, {"sku": sku, "warehouses": list(warehouses)})
    return dict(await cursor.fetchall())


def _named(movement: Movement) -> dict[str, Any]:
    return {"sku": movement.sku, "caller": movement.caller, "reference": movement.reference}


def _unknown(sku: str, wanted: int) -> Refused:
    return Refused(Reason.UNKNOWN_SKU, (Short(sku, wanted, 0),))


def _short(sku: str, wanted: int, available: int) -> Refused:
    return Refused(Reason.INSUFFICIENT, (Short(sku, wanted, max(0, available)),))


def _check(caller: str, key: str, reference: str, units: int) -> None:
    check_names(caller=caller, key=key, reference=reference)
    if not 1 <= units <= MOST_UNITS:
        raise ValueError(f"1 to {MOST_UNITS:,} units can be moved at once, not {units}")
