"""What is somewhere and must not be there, and the events that say so. No I/O."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from audit.compare import StockSnapshot
from audit.continuous.judge import Case
from audit.continuous.pages import Drawn
from audit.report import Difference
from inventory.groups import AVAILABILITY, LEDGER
from inventory.messages import timestamp
from inventory.policy import NO_OVERRIDES, SHARE_UNITS, ChannelKind, ChannelOverride
from inventory.projection import SkuState
from inventory.stock import StockLevel
from inventory.topics import CHANNEL_SKU, STOCK

#: What a ledger adds up.
BOOKED = ("on_hand", "reserved")


def _row(level: StockLevel, reason: str) -> dict[str, Any]:
    """What Debezium says of a row, its key and version aside."""
    at = level.incoming_at
    return {
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "safety_stock": level.safety_stock,
        "incoming": level.incoming,
        "incoming_at": None if at is None else timestamp(at * 1000),
        "reason": reason,
        "reference": None,
        "caused_by": "stockwire-auditor",
    }


def _own(override: ChannelOverride) -> dict[str, Any]:
    """What Debezium says of an override, its key and version aside."""
    share = None if override.share is None else str(Decimal(override.share) / SHARE_UNITS)
    said = {**override._asdict(), "share": share}
    for name in ("version", "committed_us", "deleted"):
        del said[name]
    return said


_NOTHING = _row(StockLevel(0, 0, 0, 0, None, 0, 0), "ghost")
_NOTHING_OWN = _own(ChannelOverride(0, 0))


class Ghost(NamedTuple):
    """Something that is somewhere and not in Postgres, and how it is said to be gone.

    Attributes:
        before: what it is there; what a ledger has booked may be less than nothing.
        version: that it has where it is; the delete counts as the next one.
        addressee: the worker that has it; None for all.
        replaces: the version that Redis has of it, where that is none of Postgres'.
    """

    topic: str
    key: dict[str, str]
    before: dict[str, Any]
    version: int
    addressee: str | None
    replaces: int | None = None


class Truth(NamedTuple):
    """A row as Postgres has it, where Redis has it in a version that Postgres never drew.

    Attributes:
        row: without its key and version.
        replaces: the version that Redis has.
    """

    topic: str
    key: dict[str, str]
    row: dict[str, Any]
    version: int
    addressee: str | None
    replaces: int


def ghosts_of(
    case: Case,
    kinds: dict[str, ChannelKind],
    state: SkuState | None,
    now: StockSnapshot,
    drawn: Drawn,
    warehouse: Callable[[], str | None],
) -> Iterable[Ghost]:
    """What of a case is to be said to be gone; what has come since it was judged is not.

    Args:
        case: as judged.
        kinds: of channels, by place.
        state: what Redis has of the SKU; None for a key of another type.
        now: the SKU in Postgres, read after that.
        drawn: likewise.
        warehouse: gives the code of any.
    """
    gone = [d for d in case.differences if d.expected is None and not _has_come(d, now)]
    for difference in gone:
        if difference.place == "redis overrides":
            yield _within(_override_ghost(difference), difference, drawn.policy)
        elif difference.warehouse is None:
            continue
        elif difference.place == "redis stock":
            ghost = _row_ghost(difference, AVAILABILITY)
            yield _within(ghost, difference, drawn.stock)
        elif kinds.get(difference.place) in (ChannelKind.LEVEL, ChannelKind.MOVEMENT):
            yield _row_ghost(difference, LEDGER)
    listed = any(
        d.warehouse is None and kinds.get(d.place) in (None, ChannelKind.AVAILABILITY) for d in gone
    )
    rows = any(d.place == "redis stock" and d.warehouse is not None for d in gone)
    if listed and not rows and case.sku not in now.levels:
        known = state or SkuState(case.sku, 0, {}, None)
        yield from _listed_ghost(known, drawn, warehouse)


def _listed_ghost(
    state: SkuState, drawn: Drawn, warehouse: Callable[[], str | None]
) -> Iterable[Ghost]:
    """Readers or subscribers have a SKU without rows: a row that is gone tells them so.

    That mends what is unreadable in the SKU's hash, too.
    """
    # What cannot be read may have a name that no row can have.
    levels = {c: level for c, level in state.levels.items() if c not in state.unreadable}
    code = max(levels, key=lambda each: levels[each].version, default=None)
    some = code or warehouse()
    if some is not None:
        # A delete counts as the next version: of a row that is gone, as the one that it has.
        version = max(0, levels[code].version - 1) if code is not None else 0
        key = {"sku": state.sku, "warehouse": some}
        ghost = Ghost(STOCK, key, _NOTHING, version, AVAILABILITY)
        if version > drawn.stock and code is not None:
            ghost = ghost._replace(version=drawn.stock, replaces=levels[code].version)
        yield ghost


def _has_come(difference: Difference, now: StockSnapshot) -> bool:
    """Whether what looked like a ghost is a row: written after Postgres was read for the audit."""
    of = now.overrides if difference.place == "redis overrides" else now.levels
    return difference.expected is None and difference.warehouse in of.get(difference.sku, {})


def ahead_of(sku: str, state: SkuState | None, now: StockSnapshot) -> Iterable[Truth]:
    """Rows that Redis has in a version which Postgres has not reached: nothing would mend them.

    The row as it is takes their place, and no delete: until a block, a ring-fence or what is short
    is read again, it must still count.
    """
    if state is None:
        return
    for code, level in now.levels.get(sku, {}).items():
        kept = state.levels.get(code)
        if kept is not None and kept.version > level.version:
            key = {"sku": sku, "warehouse": code}
            yield Truth(
                STOCK, key, _row(level, "repair"), level.version, AVAILABILITY, kept.version
            )
    for channel, override in now.overrides.get(sku, NO_OVERRIDES).items():
        own = state.overrides.get(channel)
        if own is not None and own.version > override.version:
            key = {"channel": channel, "sku": sku}
            yield Truth(CHANNEL_SKU, key, _own(override), override.version, None, own.version)


def _within(ghost: Ghost, difference: Difference, drawn: int) -> Ghost:
    """The same, with the last version that was drawn where its own one was not drawn yet.

    A delete with a higher one would hide the rows that really come.
    """
    if ghost.version <= drawn:
        return ghost
    return ghost._replace(version=drawn, replaces=_quantity((difference.found or {})["version"]))


def _row_ghost(difference: Difference, addressee: str) -> Ghost:
    _, sku, warehouse, _, found = difference
    said = found or {}
    # What a ledger has booked is taken back; a level says nothing of bookings.
    before = {
        **_NOTHING,
        **{name: _whole(said.get(f"sum_{name}")) for name in BOOKED},
    }
    key = {"sku": sku, "warehouse": warehouse or ""}
    # Rows have even versions; an odd one is of a delete that was told, and has not ended it.
    version = _quantity(said.get("version"))
    return Ghost(STOCK, key, before, version + version % 2, addressee)


def _override_ghost(difference: Difference) -> Ghost:
    """What it says besides its version is of no account, and may be nothing that can be said."""
    _, sku, channel, _, found = difference
    version = _quantity((found or {}).get("version"))
    return Ghost(CHANNEL_SKU, {"channel": channel or "", "sku": sku}, _NOTHING_OWN, version, None)


def merged(ghosts: Iterable[Ghost]) -> Iterable[Ghost]:
    """One of each row and addressee: a ledger must not take back twice what it has booked once."""
    found: dict[tuple[str, str, str | None], Ghost] = {}
    for ghost in ghosts:
        about = (ghost.topic, orjson.dumps(ghost.key).decode(), ghost.addressee)
        other = found.get(about, ghost)
        if ghost.topic == STOCK:
            units = {name: ghost.before[name] or other.before[name] for name in BOOKED}
            ghost = ghost._replace(before={**ghost.before, **units})
        found[about] = ghost._replace(version=max(ghost.version, other.version))
    return found.values()


def _quantity(value: object) -> int:
    return max(0, _whole(value))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
