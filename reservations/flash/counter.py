"""The counters in Redis: what hands out a sale's units, each step one script.

Keys of a SKU, in one slot of a Redis Cluster:
- `flash:{<sku>}` hash: the sale's id, epoch, units left, sequence, status, and what answers carry;
- `flash:{<sku>}:due` sorted set: reservation by the time its hold ends (ms);
- `flash:{<sku>}:holds` hash: reservation to the record of its grant, until Postgres has ended it;
- `flash:{<sku>}:keys` hash: caller and key to what they were answered;
- `flash:{<sku>}:grants` stream: the records, for the settlement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import NoScriptError

from projections.outage import redis_outages
from projections.script import Argument, Command, Script
from reservations.flash.grant import Asked, Grant, Sale, moment
from stockwire_client.names import escape_sku

#: The consumer group of the settling workers.
GROUP = "settlement"
#: Connections of a process, and how long a buyer waits for one and for its answer, in seconds.
CONNECTIONS = 16
_WAIT_SECONDS = 5.0
#: How long Redis keeps the word that a sale is closed, in seconds: Postgres tells it afterwards.
CLOSED_SECONDS = 3600

_GRANT, _REGRANT, _END, _INSTALL, _CLOSE = (
    Script(f"{name}.lua", "reservations.flash")
    for name in ("grant", "regrant", "end", "install", "close")
)


@dataclass(frozen=True, slots=True)
class Bid:
    """A request as the counter takes it; `reservation` is its id if it is granted."""

    reservation: UUID
    quantity: int
    hold_seconds: float
    asked: Asked
    warehouses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a bid: `word` is the first of those of `grant.lua`."""

    word: str
    reservation: UUID | None = None
    due_ms: int = 0
    version: int = 0
    warehouse: str = ""
    left: int = 0

    @property
    def held_until(self) -> datetime:
        """When a grant's hold ends."""
        return moment(self.due_ms)


@dataclass(frozen=True, slots=True)
class Replies:
    """What came of bids, and in which epoch."""

    epoch: int
    replies: Sequence[Reply]


@dataclass(frozen=True, slots=True)
class Head:
    """How far a counter is."""

    sale: int
    epoch: int
    sequence: int
    open: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """All of a counter, at one moment. `holds` are quantities."""

    head: Head
    left: int
    holds: Mapping[UUID, int]


def open_redis(url: str, *, connections: int = CONNECTIONS) -> Redis:
    """A client for thousands of buyers at once: they wait for a connection, in their order."""
    pool = BlockingConnectionPool.from_url(
        url, max_connections=connections, timeout=_WAIT_SECONDS, socket_timeout=_WAIT_SECONDS
    )
    return Redis.from_pool(pool)


def keys_of(sku: str) -> tuple[str, str, str, str, str]:
    """The sale, the due times of its holds, its holds, its keys, its stream."""
    sale = f"flash:{{{escape_sku(sku)}}}"
    return sale, f"{sale}:due", f"{sale}:holds", f"{sale}:keys", f"{sale}:grants"


class Counters:
    """The counters of all sales.

    Args:
        redis: a client with `decode_responses=False`. Its socket's timeout must be above the time
            that a settling worker waits for grants.

    Raises (all methods):
        Outage: Redis takes no work.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def grant(self, sku: str, bids: Sequence[Bid], least_epoch: int) -> Replies | None:
        """Grant in order, until one is insufficient; None if there is no counter of that epoch."""
        arguments: list[Argument] = [least_epoch]
        for bid in bids:
            arguments += (
                str(bid.reservation),
                bid.quantity,
                max(1, round(bid.hold_seconds * 1000)),
                bid.asked.field,
                bid.asked.request.hex(),
                bid.asked.encode(),
                f"|{'|'.join(bid.warehouses)}|" if bid.warehouses else "",
            )
        reply = await self._run(_GRANT, keys_of(sku), *arguments)
        if not reply:
            return None
        epoch, *replies = reply
        return Replies(int(epoch), list(map(_reply, replies)))

    async def regrant(self, sale: Sale, grant: Grant) -> str:
        """`granted`, `gone` or `lost`; see `regrant.lua`."""
        asked = grant.asked
        reply = await self._run(
            _REGRANT,
            keys_of(sale.sku),
            *(sale.id, sale.epoch, str(grant.reservation), grant.quantity, grant.due_ms),
            *(asked.field, asked.request.hex(), asked.encode()),
        )
        return str(reply.decode())

    async def give_back(self, sku: str, sale: int, reservations: Sequence[UUID]) -> int:
        """Holds of a sale were let go: their units may be granted again."""
        return await self._end(sku, sale, "return", reservations)

    async def forget(self, sku: str, sale: int, reservations: Sequence[UUID]) -> int:
        """Holds of a sale have ended, and their units do not come back to it."""
        return await self._end(sku, sale, "forget", reservations)

    async def install(
        self, sale: Sale, holds: Sequence[Grant], answered: Mapping[bytes, str]
    ) -> None:
        """Begin the sale's epoch with what Postgres knows, unless one as late has begun.

        Args:
            sale: as it is in Postgres.
            holds: those that are live.
            answered: who was answered what, as `grant.lua` writes it.
        """
        state = {
            "sale": {
                "id": str(sale.id),
                "epoch": str(sale.epoch),
                "left": str(sale.unsold),
                "sequence": str(sale.sequence),
                "status": "open",
                "warehouse": sale.warehouse,
                "version": str(sale.stock_version),
            },
            "holds": [
                part
                for grant in holds
                for part in (str(grant.reservation), grant.due_ms, grant.encode().decode())
            ],
            "keys": [
                part for field, answer in answered.items() for part in (field.decode(), answer)
            ],
        }
        await self._run(_INSTALL, keys_of(sale.sku), GROUP, orjson.dumps(state))

    async def close(self, sale: Sale, *, remove: bool) -> Sequence[bytes]:
        """Grant nothing more; the records of the holds. With `remove` they are taken away."""
        records: Sequence[bytes] = await self._run(
            _CLOSE, keys_of(sale.sku), sale.id, CLOSED_SECONDS if remove else ""
        )
        return records

    async def ping(self) -> None:
        """Return if Redis answers."""
        with redis_outages():
            await self._redis.ping()

    async def heads(self, skus: Sequence[str]) -> Sequence[Head | None]:
        """How far the counters are; None for one that there is not."""
        with redis_outages():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for sku in skus:
                    pipeline.hmget(keys_of(sku)[0], ["id", "epoch", "sequence", "status"])
                return list(map(_head, await pipeline.execute()))

    async def standing(self, sku: str) -> Standing | None:
        """All of a counter; None if there is none."""
        sale, _, holds, _, _ = keys_of(sku)
        with redis_outages():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hmget(sale, ["id", "epoch", "sequence", "status", "left"])
                pipeline.hgetall(holds)
                (*fields, left), records = await pipeline.execute()
        head = _head(fields)
        if head is None:
            return None
        quantities = {
            UUID(reservation.decode()): int(record.split(b" ", 4)[3])
            for reservation, record in records.items()
        }
        return Standing(head, int(left), quantities)

    async def due(self, sku: str, limit: int) -> Sequence[UUID]:
        """Holds whose time is over by Redis' clock, the longest due first."""
        with redis_outages():
            seconds, microseconds = await self._redis.time()
            now = seconds * 1000 + microseconds // 1000
            due: list[bytes] = await self._redis.zrangebyscore(  # type: ignore[assignment]
                keys_of(sku)[1], "-inf", now, 0, limit
            )
            return [UUID(reservation.decode()) for reservation in due]

    async def records(self, sku: str, reservations: Sequence[UUID]) -> Sequence[bytes]:
        """The records of holds, of those that there are."""
        if not reservations:
            return []
        with redis_outages():
            names = [str(reservation) for reservation in reservations]
            found: list[bytes | None] = await self._redis.hmget(  # type: ignore[assignment]
                keys_of(sku)[2], names
            )
            return [record for record in found if record is not None]

    async def find(self, skus: Sequence[str], reservation: UUID) -> tuple[str, bytes] | None:
        """Of which SKU a hold is, and its record."""
        with redis_outages():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for sku in skus:
                    pipeline.hget(keys_of(sku)[2], str(reservation))
                records = await pipeline.execute()
        for sku, record in zip(skus, records, strict=True):
            if record is not None:
                return sku, record
        return None

    async def _end(self, sku: str, sale: int, how: str, reservations: Sequence[UUID]) -> int:
        if not reservations:
            return 0
        return int(await self._run(_END, keys_of(sku), sale, how, *map(str, reservations)))

    async def _run(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Any:
        command: Command = script.call(keys, *arguments)
        with redis_outages():
            try:
                return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
            except NoScriptError:
                await self._redis.execute_command(*script.load)  # type: ignore[no-untyped-call]
                return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]


def _reply(parts: Sequence[Any]) -> Reply:
    match parts:
        case [b"granted", reservation, due_ms, version, warehouse]:
            return Reply(
                "granted",
                UUID(reservation.decode()),
                int(due_ms),
                int(version),
                warehouse.decode(),
            )
        case [b"insufficient", left]:
            return Reply("insufficient", left=int(left))
        case _:
            return Reply(parts[0].decode())


def _head(fields: Sequence[bytes | None]) -> Head | None:
    sale, epoch, sequence, status = fields
    if sale is None or epoch is None or sequence is None:
        return None
    return Head(int(sale), int(epoch), int(sequence), status == b"open")
