"""One sale in one transaction, while nobody else changes it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import orjson
from psycopg import AsyncConnection

from reservations.basket import Strategy
from reservations.events import Reserved, Units
from reservations.flash.grant import Asked, Grant, Sale, Verdict, judge
from sql.queries import load_queries

_QUERIES = load_queries()
_KNOWN = _QUERIES["flash_known"]
_TAKE_KEYS = _QUERIES["flash_take_keys"]
_SETTLE = _QUERIES["flash_settle"]
_RAISE_EPOCH = _QUERIES["flash_raise_epoch"]
_LIVE_HOLDS = _QUERIES["flash_live_holds"]
_ANSWERED = _QUERIES["flash_answered"]
_FREE_STOCK = _QUERIES["flash_free_stock"]
_CLOSE = _QUERIES["flash_close"]
_ENDED = _QUERIES["flash_ended"]


class Book:
    """A locked sale; made by `Ledger.locked`, whose transaction all of this is in.

    Attributes:
        sale: as it is now, with what was done here.
    """

    def __init__(self, connection: AsyncConnection, sale: Sale) -> None:
        self._connection = connection
        self.sale = sale

    async def settle(self, grants: Sequence[Grant]) -> Verdict:
        """Write those grants that are new and that the sale has units for.

        A reservation with its line, its answer and its event each. Three round trips at most,
        however many there are.
        """
        ids = [grant.reservation for grant in grants]
        cursor = await self._connection.execute(_KNOWN, {"reservations": ids})
        verdict = judge(self.sale, grants, {row[0] for row in await cursor.fetchall()})
        if verdict.settle:
            await self._take_keys(verdict)
        if verdict.settle:
            await self._write(verdict.settle)
        return verdict

    async def raise_epoch(self, epoch: int) -> None:
        """Begin another life of the counter; grants of earlier ones are late from here on."""
        await self._connection.execute(_RAISE_EPOCH, {"sale": self.sale.id, "epoch": epoch})
        self.sale = replace(self.sale, epoch=epoch)

    async def live_holds(self) -> Sequence[Grant]:
        """Settled holds that have not ended, as grants of the present epoch."""
        cursor = await self._connection.execute(_LIVE_HOLDS, {"sale": self.sale.id})
        return [
            Grant(
                self.sale.id,
                self.sale.epoch,
                sequence,
                quantity,
                _milliseconds(held_until),
                reservation,
                Asked(*asked),
            )
            for reservation, held_until, quantity, sequence, *asked in await cursor.fetchall()
        ]

    async def ended(self, reservations: Sequence[UUID]) -> Mapping[UUID, str | None]:
        """As `Ledger.ended`, in this transaction."""
        return await ended(self._connection, reservations)

    async def answered(self) -> Mapping[bytes, str]:
        """Who was answered what in sales of this SKU, as `grant.lua` writes it."""
        cursor = await self._connection.execute(_ANSWERED, {"sku": self.sale.sku})
        return {
            orjson.dumps([caller, key]): " ".join(
                (request.hex(), str(reservation), str(_milliseconds(until)), str(version), place)
            )
            for caller, key, request, reservation, until, version, place in await cursor.fetchall()
        }

    async def close(self, caller: str) -> int:
        """Free what nobody has of the allotment; how many units. The row of stock is locked."""
        units = self.sale.unsold
        values = {"sale": self.sale.id, "units": units, "caller": caller, "reason": "release"}
        if units:
            await self._connection.execute(_FREE_STOCK, values)
        await self._connection.execute(_CLOSE, {"sale": self.sale.id, "returned": units})
        self.sale = replace(self.sale, returned=self.sale.returned + units, closed=True)
        return units

    async def _take_keys(self, verdict: Verdict) -> None:
        """Keep the answers; who finds the key used is a duplicate."""
        grants = verdict.settle
        cursor = await self._connection.execute(
            _TAKE_KEYS,
            {
                "callers": [grant.asked.caller for grant in grants],
                "keys": [grant.asked.key for grant in grants],
                "requests": [grant.asked.request for grant in grants],
                "answers": [self._answer(grant) for grant in grants],
            },
        )
        taken = set(await cursor.fetchall())
        verdict.settle = []
        for grant in grants:
            # Of two with one key, in one batch, the first one has it.
            key = (grant.asked.caller, grant.asked.key)
            (verdict.settle if key in taken else verdict.duplicate).append(grant)
            taken.discard(key)

    async def _write(self, grants: Sequence[Grant]) -> None:
        await self._connection.execute(
            _SETTLE,
            {
                "sale": self.sale.id,
                "sku": self.sale.sku,
                "warehouse": self.sale.warehouse,
                "reservations": [grant.reservation for grant in grants],
                "callers": [grant.asked.caller for grant in grants],
                "keys": [grant.asked.key for grant in grants],
                "references": [grant.asked.reference for grant in grants],
                "requests": [grant.asked.request for grant in grants],
                "quantities": [grant.quantity for grant in grants],
                "sequences": [grant.sequence for grant in grants],
                "held_until": [grant.held_until for grant in grants],
                "payloads": [self._event(grant) for grant in grants],
            },
        )
        self.sale = replace(
            self.sale,
            held=self.sale.held + sum(grant.quantity for grant in grants),
            sequence=max(self.sale.sequence, *(grant.sequence for grant in grants)),
        )

    def _answer(self, grant: Grant) -> str:
        """As `reservations.idempotency.decode` reads it."""
        return orjson.dumps(
            {
                "kind": "granted",
                "reservation": grant.reservation,
                "held_until": grant.held_until,
                "units": [self._units(grant).model_dump()],
            }
        ).decode()

    def _event(self, grant: Grant) -> bytes:
        return (
            Reserved(
                occurred_at=datetime.now(UTC),
                caller=grant.asked.caller,
                reference=grant.asked.reference,
                reservation=grant.reservation,
                strategy=Strategy.REDIS,
                held_until=grant.held_until,
                units=(self._units(grant),),
            )
            .model_dump_json()
            .encode()
        )

    def _units(self, grant: Grant) -> Units:
        return Units(
            sku=self.sale.sku,
            warehouse=self.sale.warehouse,
            quantity=grant.quantity,
            row_version=self.sale.stock_version,
        )


async def ended(
    connection: AsyncConnection, reservations: Sequence[UUID]
) -> Mapping[UUID, str | None]:
    """Where the units of settled holds are; None for those that are live."""
    cursor = await connection.execute(_ENDED, {"reservations": list(reservations)})
    return dict(await cursor.fetchall())


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
