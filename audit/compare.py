"""What every place must hold according to Postgres, and where it does not. No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from audit.ledger import ledger_rows
from audit.report import MAX_EXAMPLES, AuditReport, Difference, Fields, Key, PlaceReport
from inventory.availability import promises
from inventory.errors import InvalidEvent
from inventory.messages import timestamp
from inventory.names import check_sku, check_warehouse
from inventory.policy import NO_OVERRIDES, ChannelKind, ChannelOverride, ChannelPolicy, PolicySet
from inventory.stock import StockLevel
from stockwire_client.contract import Status

#: In µs, how far a topic's clock may be ahead of one in Redis that started again from the commit
#: time, after a loss: each telling before it had counted on by 1. The next change is later still.
COUNTED_ON = 1_000_000

_STATUSES: Mapping[object, Status] = {status.value: status for status in Status}


@dataclass(frozen=True, slots=True)
class StockSnapshot:
    """Postgres at one moment.

    Attributes:
        levels: by SKU and warehouse; `committed_us` is the row's `updated_at`, a moment earlier.
        rejected: rows that the pipeline dead-letters by rule; they are not in `levels`.
        overrides: by SKU and channel.
        echoes: who has caused a row's last change (`caused_by`), for the rows where that is some
            channel's own (`echo_of`).
    """

    levels: Mapping[str, Mapping[str, StockLevel]]
    policies: tuple[ChannelPolicy, ...]
    rejected: int = 0
    overrides: Mapping[str, Mapping[str, ChannelOverride]] = field(default_factory=dict)
    echoes: Mapping[Key, str] = field(default_factory=dict)

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
        overrides: of the working state, by SKU and channel, without those marked as deleted.
        strays: what readers find under names that are no channel's, by that name; a channel that
            is still being taken out of every SKU is to be left out by who knows of it.
    """

    rows: Mapping[Key, Fields]
    channels: Mapping[str, Mapping[Key, Fields]]
    overrides: Mapping[Key, Fields] = field(default_factory=dict)
    strays: Mapping[str, Mapping[Key, Fields]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicSnapshot:
    """The last message of each key of a channel's topic, without tombstones.

    Attributes:
        kept_since_us: messages before this may have expired, in µs since the epoch; None if none
            can have.
    """

    messages: Mapping[Key, Fields] = field(default_factory=dict)
    kept_since_us: int | None = None


def is_rejected(sku: str, warehouse: str | None = None) -> bool:
    """Whether the pipeline dead-letters this row by rule, or without a warehouse this SKU."""
    try:
        check_sku(sku)
        if warehouse is not None:
            check_warehouse(warehouse)
    except InvalidEvent:
        return True
    return False


def compare(
    stock: StockSnapshot,
    projection: ProjectionSnapshot,
    topics: Mapping[str, TopicSnapshot],
    examples: int | None = MAX_EXAMPLES,
) -> AuditReport:
    """Compare everything; `topics` holds one snapshot for the topic of each policy.

    A channel that was removed has no policy: what is left of its topic is not looked at, and what
    readers still find of it is drift.

    Args:
        stock: what is right.
        projection: of the same SKUs, and of any that Postgres does not have.
        topics: of these SKUs likewise.
        examples: so many differences of each place are named at most; None names all.
    """
    places = [
        _compare("redis stock", _rows(stock), projection.rows, examples),
        _compare("redis overrides", _overrides(stock), projection.overrides, examples),
    ]
    places += [
        _compare(f"redis {name}", {}, found, examples)
        for name, found in sorted(projection.strays.items())
    ]
    promised = _availability(stock, projection, topics)
    for policy in stock.policies:
        place, topic = f"topic {policy.topic}", topics[policy.topic]
        match policy.kind:
            case ChannelKind.AVAILABILITY:
                told = projection.channels.get(policy.name, {})
                expected = promised[policy.name]
                messages = _availability_messages(expected, told, topic.messages)
                shown = {key: _without(fields, "restock_at") for key, fields in expected.items()}
                places.append(_compare(f"redis {policy.name}", shown, told, examples))
                places.append(_compare(place, messages, topic.messages, examples))
            case ChannelKind.LEVEL:
                levels = _levels(stock, policy)
                places.append(_compare(place, levels, topic.messages, examples))
            case ChannelKind.MOVEMENT:
                expected, found, expired = ledger_rows(
                    _all(stock), stock.echoes, policy, topic.messages, topic.kept_since_us
                )
                places.append(_compare(place, expected, found, examples, expired))
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


def _overrides(stock: StockSnapshot) -> dict[Key, Fields]:
    return {
        Key(sku, channel): override_fields(override)
        for sku, channels in stock.overrides.items()
        for channel, override in channels.items()
        if not is_rejected(sku)
    }


def override_fields(override: ChannelOverride) -> Fields:
    """What must be equal of an override in Postgres and in Redis."""
    return _without(_without(override._asdict(), "committed_us"), "deleted")


def _availability(
    stock: StockSnapshot, projection: ProjectionSnapshot, topics: Mapping[str, TopicSnapshot]
) -> dict[str, dict[Key, Fields]]:
    """By channel, what it may promise of each SKU that it lists.

    Where the hysteresis allows for two statuses, the one that is there is right if it would stay:
    in Redis, or on the topic of a SKU that Redis has lost.
    """
    policies = PolicySet.of(stock.policies).policies
    expected: dict[str, dict[Key, Fields]] = {policy.name: {} for policy in policies}
    places = {p.name: (projection.channels.get(p.name, {}), topics[p.topic]) for p in policies}
    for sku, levels in stock.levels.items():
        key = Key(sku)
        previous = {
            name: status
            for name, (told, topic) in places.items()
            if (status := _status(told.get(key)) or _status(topic.messages.get(key))) is not None
        }
        overrides = stock.overrides.get(sku, NO_OVERRIDES)
        for channel, promised in promises(levels, overrides, policies, previous).items():
            if promised is not None:
                at = promised.restock_at
                expected[channel][key] = {
                    "available": promised.available,
                    "status": promised.status,
                    "backorderable": promised.backorderable,
                    "order_limit": promised.order_limit,
                    "restock_at": None if at is None else timestamp(at * 1000),
                }
    return expected


def _status(told: Fields | None) -> Status | None:
    return None if told is None else _STATUSES.get(told.get("status"))


def _availability_messages(
    expected: Mapping[Key, Fields], told: Mapping[Key, Fields], found: Mapping[Key, Fields]
) -> dict[Key, Fields]:
    """What Redis says, the topic says under the same clock.

    A message may be older than Redis and say the same: the edit of one channel's policy counts the
    clock of a SKU on, and is told to that channel. It may be a little newer as well (`COUNTED_ON`).
    """
    messages = dict(expected)
    for key in expected.keys() & told.keys():
        version, said = told[key].get("version"), found.get(key, {}).get("version")
        if isinstance(version, int):
            if isinstance(said, int) and said <= version + COUNTED_ON:
                version = said
            messages[key] = {**expected[key], "version": version}
    return messages


def _levels(stock: StockSnapshot, policy: ChannelPolicy) -> dict[Key, Fields]:
    return {
        key: {**_without(row_fields(level), "incoming_at"), "available": level.free}
        for key, level in _all(stock)
        if policy.sells_from(key.warehouse or "")
    }


def _compare(
    place: str,
    expected: Mapping[Key, Fields],
    found: Mapping[Key, Fields],
    most: int | None,
    expired: int = 0,
) -> PlaceReport:
    differing = [key for key, fields in expected.items() if not _holds(fields, found.get(key))]
    ghosts = [key for key in found if key not in expected]
    examples = islice([*differing, *ghosts], most)
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
