"""The rows of `inventory.saga`: taken in once, claimed by one, written by who holds the claim."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from inventory.errors import Outage
from reservations.pool import outages
from reservations.saga.command import CheckoutRequested
from reservations.saga.events import ending, outbox_columns
from reservations.saga.machine import Record, Saga, State, Status, Step
from sql.queries import load_queries

_QUERIES = load_queries()

#: A Postgres that is stopped closes no connection. Longer than the pool waits for a free one, and
#: than the server lets a statement take.
_ANSWER_SECONDS = 12.0

#: A claim lasts so long after each write, unless said.
LEASE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Listed:
    """A saga as a person sees it; `claimed_by` is who works on it, or died doing so."""

    saga: Saga
    due_at: datetime
    claimed_by: str | None
    claimed_until: datetime | None
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


class Sagas:
    """Sagas in Postgres. What a method changes, it changes in one statement, so in one transaction.

    Raises (all methods):
        Outage: Postgres takes no work, or does not say so.
    """

    def __init__(self, pool: AsyncConnectionPool) -> None:
        """Work with connections that commit each statement (`reservations.pool.open_pool`)."""
        self._pool = pool

    async def accept(self, *commands: CheckoutRequested) -> list[CheckoutRequested]:
        """Begin sagas, all of them or none; when this returns, the commands may be forgotten.

        A command that was accepted before changes nothing, whatever became of it.

        Returns:
            Those that are not done, now or ever: their caller has given the id to another command.
        """
        came = {
            "ids": [command.saga for command in commands],
            "commands": [command.model_dump_json() for command in commands],
        }
        await self._execute(
            "accept_checkouts",
            {
                **came,
                "references": [command.reference for command in commands],
                "steps": steps_json({step: Record() for step in Step}),
                "status": Status.RUNNING,
            },
        )
        return [
            commands[row["number"]] for row in await self._execute("contradicting_checkouts", came)
        ]

    async def count_open(self, most: int) -> int:
        """How many sagas have not ended; more than so many are not counted."""
        [row] = await self._execute("count_open_sagas", {"most": most})
        return int(row["open"])

    async def claim(
        self, most: int, *, claimed_by: str, lease_seconds: float = LEASE_SECONDS
    ) -> list[Saga]:
        """Up to so many sagas that are due and that nobody works on, for this caller alone."""
        rows = await self._execute(
            "claim_sagas", {"most": most, "claimed_by": claimed_by, "lease_seconds": lease_seconds}
        )
        return [saga_of(row) for row in rows]

    async def write(
        self, saga: Saga, *, pause_seconds: float = 0.0, lease_seconds: float = LEASE_SECONDS
    ) -> Saga | None:
        """Write what has become of a saga since it was read, and tell how it ended if it has.

        Args:
            saga: as it is to be, with the version that it was read at.
            pause_seconds: until its next step is due; unless 0, the claim is given back.
            lease_seconds: how long the claim lasts from now.

        Returns:
            The saga with its version and time; None when somebody else has claimed it since.
        """
        rows = await self._execute(
            "write_saga",
            {
                "id": saga.id,
                "version": saga.version,
                "steps": steps_json(saga.records),
                "status": saga.status,
                "ended": saga.ended,
                "pause_seconds": pause_seconds,
                "lease_seconds": lease_seconds,
                **outbox_columns(ending(saga)),
            },
        )
        if not rows:
            return None
        return replace(saga, version=rows[0]["version"], read_at=rows[0]["read_at"])

    async def give_back(self, saga: Saga) -> None:
        """Let others take it at once."""
        await self._execute("give_back_saga", {"id": saga.id, "version": saga.version})

    async def latest(self, status: Status | None = None, most: int = 50) -> list[Listed]:
        """The newest sagas, of one status or of any."""
        rows = await self._execute("list_sagas", {"status": status, "most": most})
        return [_listed(row) for row in rows]

    async def find(self, saga: UUID) -> Listed | None:
        """One saga; None if there is none of that id."""
        rows = await self._execute("find_saga", {"id": saga})
        return _listed(rows[0]) if rows else None

    async def retry(self, saga: UUID) -> bool:
        """Have its next step done now rather than after its pause; False if it has ended."""
        return bool(await self._execute("retry_saga", {"id": saga}))

    async def _execute(self, query: str, parameters: Mapping[str, Any]) -> list[DictRow]:
        with outages():
            try:
                async with asyncio.timeout(_ANSWER_SECONDS), self._pool.connection() as connection:
                    return await _rows(connection, query, parameters)
            except TimeoutError as exc:
                raise Outage(f"Postgres says nothing for {_ANSWER_SECONDS:g} s.") from exc


async def _rows(
    connection: AsyncConnection, query: str, parameters: Mapping[str, Any]
) -> list[DictRow]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_QUERIES[query], parameters)
        return await cursor.fetchall() if cursor.description else []


def steps_json(records: Mapping[Step, Record]) -> str:
    """The column `steps`."""
    return orjson.dumps({step.value: asdict(record) for step, record in records.items()}).decode()


def saga_of(row: Mapping[str, Any]) -> Saga:
    """A saga from its row."""
    return Saga(
        id=row["id"],
        command=CheckoutRequested.model_validate(row["command"]),
        version=row["version"],
        read_at=row["read_at"],
        records={step: _record(row["steps"][step.value]) for step in Step},
    )


def _record(fields: Mapping[str, Any]) -> Record:
    return Record(**{**fields, "state": State(fields["state"])})


def _listed(row: Mapping[str, Any]) -> Listed:
    return Listed(
        saga=saga_of(row),
        due_at=row["due_at"],
        claimed_by=row["claimed_by"],
        claimed_until=row["claimed_until"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        ended_at=row["ended_at"],
    )
