"""A sale as Postgres has it, a grant as Redis gives it, and which grants can be settled. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import orjson

from inventory.errors import InvalidEvent


@dataclass(frozen=True, slots=True)
class Sale:
    """A row of `inventory.flash_sale`.

    Attributes:
        held: units of settled reservations that are live.
        confirmed: units that have left.
        returned: units that are free again.
        epoch: the life of the counter in Redis that counts.
        sequence: the highest number of a settled grant.
    """

    id: int
    sku: str
    warehouse: str
    caller: str
    reference: str
    stock_version: int
    allotted: int
    held: int
    confirmed: int
    returned: int
    epoch: int
    sequence: int
    closed: bool

    @property
    def unsold(self) -> int:
        """Units of the allotment that no settled reservation has."""
        return self.allotted - self.held - self.confirmed - self.returned


@dataclass(frozen=True, slots=True)
class Asked:
    """What the settlement wants to know of a request; `request` is its digest."""

    caller: str
    key: str
    reference: str
    request: bytes

    @property
    def field(self) -> bytes:
        """Caller and key as one field of a Redis hash."""
        return orjson.dumps([self.caller, self.key])

    def encode(self) -> bytes:
        """For the end of a record."""
        return orjson.dumps([self.caller, self.key, self.reference, self.request.hex()])


@dataclass(frozen=True, slots=True)
class Grant:
    """Units that Redis has given to somebody.

    Attributes:
        sequence: counts the grants of an epoch and of those before it.
        due_ms: when the hold ends, in milliseconds since 1970.
    """

    sale: int
    epoch: int
    sequence: int
    quantity: int
    due_ms: int
    reservation: UUID
    asked: Asked

    @property
    def held_until(self) -> datetime:
        """When the hold ends."""
        return moment(self.due_ms)

    def encode(self) -> bytes:
        """The record, as `grant.lua` writes it."""
        numbers = (self.sale, self.epoch, self.sequence, self.quantity, self.due_ms)
        head = " ".join((*map(str, numbers), str(self.reservation)))
        return head.encode() + b" " + self.asked.encode()


def moment(milliseconds: int) -> datetime:
    """A time from milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def decode_grant(record: bytes) -> Grant:
    """A grant from its record.

    Raises:
        InvalidEvent: no script of ours wrote it.
    """
    try:
        *numbers, reservation, asked = record.split(b" ", 6)
        sale, epoch, sequence, quantity, due_ms = map(int, numbers)
        caller, key, reference, request = orjson.loads(asked)
        return Grant(
            sale,
            epoch,
            sequence,
            quantity,
            due_ms,
            UUID(reservation.decode()),
            Asked(caller, key, reference, bytes.fromhex(request)),
        )
    except (ValueError, TypeError, AttributeError) as exc:
        raise InvalidEvent(f"{record[:200]!r} is no record of a grant") from exc


@dataclass(slots=True)
class Verdict:
    """What becomes of grants.

    Attributes:
        settle: they are to be written.
        known: they had been written before.
        late: they are of an epoch that is over, which Redis may grant once more.
        overdrawn: of this epoch, and Postgres has no units for them: the counter has lost grants.
        gone: their sale is closed, or another one.
        duplicate: their key had been used; their units come back.
    """

    settle: list[Grant] = field(default_factory=list)
    known: list[Grant] = field(default_factory=list)
    late: list[Grant] = field(default_factory=list)
    overdrawn: list[Grant] = field(default_factory=list)
    gone: list[Grant] = field(default_factory=list)
    duplicate: list[Grant] = field(default_factory=list)


def judge(sale: Sale, grants: Sequence[Grant], known: Collection[UUID]) -> Verdict:
    """Which grants the sale has units for, in the order in which they were given."""
    verdict = Verdict()
    seen = set(known)
    unsold = sale.unsold
    for grant in sorted(grants, key=lambda grant: (grant.epoch, grant.sequence)):
        if grant.reservation in seen:
            verdict.known.append(grant)
        elif grant.sale != sale.id or sale.closed:
            verdict.gone.append(grant)
        elif grant.epoch != sale.epoch:
            verdict.late.append(grant)
        elif grant.quantity > unsold:
            verdict.overdrawn.append(grant)
        else:
            unsold -= grant.quantity
            seen.add(grant.reservation)
            verdict.settle.append(grant)
    return verdict
