"""Units are held, sold or let go: each request once, each effect told in the same transaction."""

from collections.abc import Mapping
from uuid import UUID, uuid4

from psycopg_pool import AsyncConnectionPool

from reservations import closing, expiry, movements
from reservations.basket import Closed, Granted, Refused, Reserve, Strategy
from reservations.changed import Changed
from reservations.pool import outages
from reservations.strategies import TAKERS
from reservations.strategies.taker import Locking, Order, Taker
from reservations.trying import PATIENCE_SECONDS, Tally


class Reservations:
    """The write side on a pool of connections; any number of them may work side by side.

    Each request has a key: sent again, it has no second effect and gets the same answer.

    Raises (all methods):
        Outage: Postgres takes no work; what was asked for may have been done: ask again under the
            same key.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        locking: Locking = Locking.TIMEOUT,
        takers: Mapping[Strategy, Taker] = TAKERS,
    ) -> None:
        """Work with the connections of `pool`, as `open_pool` makes them.

        Args:
            pool: closed by whoever opened it.
            patience_seconds: how long to go on against others who want the same rows.
            locking: what the pessimistic strategy does about locked rows, unless a call says it.
            takers: the strategies that there are.
        """
        self._pool = pool
        self._patience = patience_seconds
        self._locking = locking
        self._takers = takers
        #: What has been tried again so far.
        self.tally = Tally()

    async def reserve(
        self,
        request: Reserve,
        strategy: Strategy = Strategy.OPTIMISTIC,
        *,
        locking: Locking | None = None,
        reservation: UUID | None = None,
        recorded: Strategy | None = None,
    ) -> Granted | Refused:
        """Hold all of a basket, or nothing.

        Args:
            request: the basket.
            strategy: how to take the units.
            locking: for the pessimistic strategy: what to do about locked rows.
            reservation: the id to give it; a new one if none.
            recorded: the strategy to note in the reservation, where another one granted it before.

        Raises:
            ValueError: there is no such strategy here.
        """
        taker = self._takers.get(strategy)
        if taker is None:
            raise ValueError(f"{strategy} is not among {', '.join(sorted(self._takers))}")
        order = Order(
            request=request,
            reservation=reservation or uuid4(),
            strategy=recorded or strategy,
            locking=locking or self._locking,
            patience_seconds=self._patience,
            tally=self.tally,
        )
        with outages():
            return await taker(self._pool, order)

    async def confirm(self, reservation: UUID, *, caller: str, key: str) -> Closed | Refused:
        """Sell what is held: the units leave. What is due, is refused as EXPIRED."""
        return await self._close(reservation, closing.CONFIRM, caller, key)

    async def release(self, reservation: UUID, *, caller: str, key: str) -> Closed | Refused:
        """Let go what is held: the units are free again. What has expired is let go already."""
        return await self._close(reservation, closing.RELEASE, caller, key)

    async def expire_due(self, limit: int = 500) -> int:
        """Let go up to `limit` holds that are due; how many they were.

        Any number of workers may do it at once: each hold is taken by one of them.
        """
        with outages():
            return await expiry.expire_due(self._pool, limit)

    async def adjust(
        self,
        sku: str,
        warehouse: str,
        delta: int,
        *,
        caller: str,
        key: str,
        reference: str,
        reason: str = "adjust",
    ) -> Changed | Refused:
        """Count units in or out; never below what is reserved."""
        change = movements.Adjust(sku, warehouse, delta, caller, key, reference, reason)
        return await self._change(change)

    async def transfer(
        self,
        sku: str,
        source: str,
        target: str,
        quantity: int,
        *,
        caller: str,
        key: str,
        reference: str,
    ) -> Changed | Refused:
        """Move units that nobody holds to another warehouse."""
        change = movements.Transfer(sku, source, target, quantity, caller, key, reference)
        return await self._change(change)

    async def _close(
        self, reservation: UUID, how: closing.How, caller: str, key: str
    ) -> Closed | Refused:
        with outages():
            return await closing.close(
                self._pool,
                reservation,
                how,
                caller,
                key,
                patience_seconds=self._patience,
                tally=self.tally,
            )

    async def _change(self, change: movements.Movement) -> Changed | Refused:
        with outages():
            return await movements.move(
                self._pool, change, patience_seconds=self._patience, tally=self.tally
            )
