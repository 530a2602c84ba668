"""What is asked for, and what comes of it. Pure values: what a shop expects is no exception."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

#: Lines in a basket, each of another SKU.
MOST_LINES = 200
#: Units in a line.
MOST_UNITS = 1_000_000
#: How long a hold lasts unless it is said, in seconds; and the longest that may be asked for.
HOLD_SECONDS = 15 * 60.0
LONGEST_HOLD_SECONDS = 30 * 24 * 3600.0
#: Characters in a caller, a key and a reference.
MOST_CHARACTERS = 200


class Strategy(StrEnum):
    """How units are taken."""

    OPTIMISTIC = "optimistic"
    PESSIMISTIC = "pessimistic"
    REDIS = "redis"


class Sourcing(StrEnum):
    """From which warehouses; see `reservations.sourcing`."""

    PRIORITY = "priority"
    FEWEST_SPLITS = "fewest_splits"
    HIGHEST_STOCK = "highest_stock"


class Reason(StrEnum):
    """Why nothing was done."""

    INSUFFICIENT = "insufficient"
    UNKNOWN_SKU = "unknown_sku"
    #: Others had rows locked each time, or all the time, until the patience was over: ask again.
    CONFLICT = "conflict"
    #: A flash sale has nothing left, and nothing comes back.
    SOLD_OUT = "sold_out"
    UNKNOWN_RESERVATION = "unknown_reservation"
    #: The hold was due before it was confirmed.
    EXPIRED = "expired"
    #: It was confirmed, so it cannot be released; or released, so it cannot be confirmed.
    CLOSED = "closed"
    #: The idempotency key was used for another request.
    KEY_REUSED = "key_reused"


@dataclass(frozen=True, slots=True)
class Line:
    """So many units of a SKU, from wherever they are."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Reserve:
    """A basket to hold, all of it or nothing.

    Attributes:
        caller: who asks, such as `web`; idempotency keys are each caller's own.
        key: the idempotency key; the same request may be sent again under it.
        reference: the order's number; it becomes the `reference` of the rows of stock.
        lines: 1 to `MOST_LINES`, each SKU once.
        hold_seconds: how long the units are held.
        sourcing: the policy that chooses the warehouses.
        warehouses: those that may be used, in the order of their priority; none for all of them,
            in the order of their codes.
    """

    caller: str
    key: str
    reference: str
    lines: tuple[Line, ...]
    hold_seconds: float = HOLD_SECONDS
    sourcing: Sourcing = Sourcing.PRIORITY
    warehouses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what can never be granted.

        Raises:
            ValueError: says what is wrong with what.
        """
        for name in ("caller", "key", "reference"):
            if not 1 <= len(getattr(self, name)) <= MOST_CHARACTERS:
                raise ValueError(f"{name} must have 1 to {MOST_CHARACTERS} characters")
        if not 1 <= len(self.lines) <= MOST_LINES:
            raise ValueError(f"a basket has 1 to {MOST_LINES} lines, not {len(self.lines)}")
        if len({line.sku for line in self.lines}) < len(self.lines):
            raise ValueError("each SKU may stand in one line of a basket only")
        for line in self.lines:
            if not 1 <= line.quantity <= MOST_UNITS:
                raise ValueError(f"{line.sku}: a line has 1 to {MOST_UNITS:,} units")
        if not 0 < self.hold_seconds <= LONGEST_HOLD_SECONDS:
            raise ValueError(f"units are held for up to {LONGEST_HOLD_SECONDS:,.0f} seconds")


@dataclass(frozen=True, slots=True)
class Held:
    """Units of one row of stock.

    `version` is the row's after the change; `stockwire_client`'s `wait_for` takes it.
    """

    sku: str
    warehouse: str
    quantity: int
    version: int


@dataclass(frozen=True, slots=True)
class Granted:
    """All of a basket is held."""

    reservation: UUID
    held: tuple[Held, ...]
    held_until: datetime


@dataclass(frozen=True, slots=True)
class Closed:
    """A reservation was confirmed or released: now, or before by the same request."""

    reservation: UUID
    versions: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Short:
    """A line that could not be had, and how many units there were."""

    sku: str
    wanted: int
    available: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done; `short` are the lines to blame, where lines are."""

    reason: Reason
    short: tuple[Short, ...] = ()


Answer: TypeAlias = Granted | Closed | Refused
