"""What every place must hold according to Postgres, and where it does not. No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from audit.report import MAX_EXAMPLES, AuditReport, Difference, Fields, Key, PlaceReport
from inventory.availability import ChannelKind, ChannelPolicy, availability
from inventory.errors import InvalidEvent
from inventory.messages import timestamp
from inventory.names import check_sku, check_warehouse
from inventory.stock import StockLevel


@dataclass(frozen=True, slots=True)
class StockSnapshot:
    """Postgres at one moment.

    Attributes:
        levels: by SKU and warehouse; `committed_us` is the row's `updated_at`, a moment earlier.
        rejected: rows that the pipeline dead-letters by rule; they are not in `levels`.
    """

    levels: Mapping[str, Mapping[str, StockLevel]]
    policies: tuple[ChannelPolicy, ...]
    rejected: int = 0

    @property
    def rows(self) -> int:
        """How many rows are to be compared."""
        return sum(map(len, self.levels.values()))


@dataclass(frozen=True, slots=True)
class ProjectionSnapshot:
    """Redis.

    Attributes:
        rows: of the working state, without those marked as deleted.
        channels: by channel, what readers get of each SKU listed there.
    """

    rows: Mapping[Key, Fields]
    channels: Mapping[str, Mapping[Key, Fields]]


@dataclass(frozen=True, slots=True)
class TopicSnapshot:
    """The last message of each key of a channel's topic, without tombstones.

    Attributes:
        kept_since_us: messages before this may have expired, in µs since the epoch; None if none
            can have.
    """

    messages: Mapping[Key, Fields] = field(default_factory=dict)
    kept_since_us: int | None = None


def is_rejected(sku: str, warehouse: str) -> bool:
    """Whether the pipeline dead-letters this row by rule."""
    try:
        check_sku(sku)
        check_warehouse(warehouse)
    except InvalidEvent:
        return True
    return False


def compare(
    stock: StockSnapshot, projection: ProjectionSnapshot, topics: Mapping[str, TopicSnapshot]
) -> AuditReport:
    """Compare everything; `topics` holds one snapshot for the topic of each policy."""
    places = [_compare("redis stock", _rows(stock), projection.rows)]
    for policy in stock.policies:
        place, topic = f"topic {policy.topic}", topics[policy.topic]
        match policy.kind:
            case ChannelKind.AVAILABILITY:
                told = projection.channels.get(policy.name, {})
                expected = _availability(stock, policy)
                messages = _availability_messages(expected, told)
                shown = {key: _without(fields, "restock_at") for key, fields in expected.items()}
                places.append(_compare(f"redis {policy.name}", shown, told))
                places.append(_compare(place, messages, topic.messages))
            case ChannelKind.LEVEL:
                places.append(_compare(place, _levels(stock, policy), topic.messages))
            case ChannelKind.MOVEMENT:
                places.append(_compare_ledger(place, stock, policy, topic))
    return AuditReport(stock.rows, len(stock.levels), stock.rejected, tuple(places))


def _rows(stock: StockSnapshot) -> dict[Key, Fields]:
    return {key: row_fields(level) for key, level in _all(stock)}


def row_fields(level: StockLevel) -> Fields:
    """What must be equal of a row in Postgres and in Redis."""
    return {
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "safety_stock": level.safety_stock,
        "incoming": level.incoming,
        "incoming_at": level.incoming_at,
        "version": level.version,
    }


def _availability(stock: StockSnapshot, policy: ChannelPolicy) -> dict[Key, Fields]:
    expected: dict[Key, Fields] = {}
    for sku, levels in stock.levels.items():
        promised = availability(levels, policy)
        if promised is not None:
            at = promised.restock_at
            expected[Key(sku)] = {
                "available": promised.available,
                "status": promised.status,
                "restock_at": None if at is None else timestamp(at * 1000),
            }
    return expected


def _availability_messages(
    expected: Mapping[Key, Fields], told: Mapping[Key, Fields]
) -> dict[Key, Fields]:
    """What Redis says, the topic says under the same clock."""
    messages = dict(expected)
    for key in expected.keys() & told.keys():
        if "version" in told[key]:
            messages[key] = {**expected[key], "version": told[key]["version"]}
    return messages


def _levels(stock: StockSnapshot, policy: ChannelPolicy) -> dict[Key, Fields]:
    return {
        key: {**_without(row_fields(level), "incoming_at"), "available": level.free}
        for key, level in _all(stock)
        if policy.sells_from(key.warehouse or "")
    }


def _compare_ledger(
    place: str, stock: StockSnapshot, policy: ChannelPolicy, topic: TopicSnapshot
) -> PlaceReport:
    expected: dict[Key, Fields] = {}
    expired = 0
    for key, level in _all(stock):
        if not policy.sells_from(key.warehouse or ""):
            continue
        if (
            key not in topic.messages
            and topic.kept_since_us is not None
            and level.committed_us < topic.kept_since_us
        ):
            expired += 1
            continue
        expected[key] = {
            "on_hand": level.on_hand,
            "reserved": level.reserved,
            "version": level.version,
            "sum_on_hand": level.on_hand,
            "sum_reserved": level.reserved,
        }
    return _compare(place, expected, topic.messages, expired)


def _compare(
    place: str, expected: Mapping[Key, Fields], found: Mapping[Key, Fields], expired: int = 0
) -> PlaceReport:
    differing = [key for key, fields in expected.items() if not _holds(fields, found.get(key))]
    ghosts = [key for key in found if key not in expected]
    examples = islice([*differing, *ghosts], MAX_EXAMPLES)
    return PlaceReport(
        place,
        len(expected) + len(ghosts),
        len(differing) + len(ghosts),
        expired,
        tuple(_difference(place, key, expected.get(key), found.get(key)) for key in examples),
    )


def _holds(expected: Fields, found: Fields | None) -> bool:
    return found is not None and all(
        name in found and found[name] == value for name, value in expected.items()
    )


def _difference(place: str, key: Key, expected: Fields | None, found: Fields | None) -> Difference:
    if expected is not None and found is not None:
        # Only what differs; an unreadable value has no such fields and is shown as it is.
        names = [n for n, value in expected.items() if n not in found or found[n] != value]
        expected = {name: expected[name] for name in names}
        found = {name: found[name] for name in names if name in found} or found
    return Difference(place, key.sku, key.warehouse, expected, found)


def _all(stock: StockSnapshot) -> Iterable[tuple[Key, StockLevel]]:
    for sku, levels in stock.levels.items():
        for warehouse, level in levels.items():
            yield Key(sku, warehouse), level


def _without(fields: Fields, name: str) -> Fields:
    return {other: value for other, value in fields.items() if other != name}
