"""Whether more was promised than there is: from Postgres' rows, whatever the sellers were told."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from inventory.errors import Outage
from sql.queries import load_queries

_OVERSOLD = load_queries()["oversold"]

#: Seconds between two looks: each reads every row of stock.
_EVERY = 2.0


@dataclass(frozen=True, slots=True)
class Overpromised:
    """A row of stock that promises more than there is; `held` are the units of live holds."""

    sku: str
    warehouse: str
    on_hand: int
    reserved: int
    held: int

    @property
    def units(self) -> int:
        """How many units are promised and not there, or not set aside and so sold again."""
        promised = max(self.reserved, self.held)
        return max(promised - self.on_hand, self.held - self.reserved)

    def __str__(self) -> str:
        """For a person."""
        return (
            f"{self.sku} in {self.warehouse}: {self.on_hand:,} on hand, "
            f"{self.reserved:,} reserved, {self.held:,} held"
        )


class OversoldWatch:
    """Looks now and then; `watching_oversold` opens one."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Look through a connection that commits each statement."""
        self._connection = connection
        self._next = 0.0
        self._units = 0

    def units(self) -> int:
        """Units that are oversold, as of at most two seconds ago.

        Raises:
            Outage: Postgres does not answer.
        """
        if time.monotonic() >= self._next:
            self._units = sum(row.units for row in self.rows())
            self._next = time.monotonic() + _EVERY
        return self._units

    def rows(self) -> list[Overpromised]:
        """The rows to blame, as of now, all at one moment.

        Raises:
            Outage: Postgres does not answer.
        """
        with _outage():
            return [Overpromised(*row) for row in self._connection.execute(_OVERSOLD)]


@contextmanager
def watching_oversold(conninfo: str) -> Iterator[OversoldWatch]:
    """A watch, as long as the context lasts.

    Raises:
        Outage: Postgres does not answer.
    """
    with _outage():
        connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=0)
    with connection:
        yield OversoldWatch(connection)


@contextmanager
def _outage() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as exc:
        reason = " ".join(str(exc).split())
        raise Outage(f"Postgres does not say what is oversold: {reason}.") from exc
