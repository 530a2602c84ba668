"""Sends what drifts through the normal path again; Redis and channels are never written here."""

import time
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import orjson
from aiokafka.partitioner import murmur2
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from redis import Redis

from audit.continuous.judge import Case
from audit.continuous.pages import Pages
from audit.projection import UNREADABLE
from audit.report import Difference
from connectors.signals import KEY, snapshot_signal
from inventory.errors import Outage
from inventory.groups import AVAILABILITY, LEDGER, REPAIR
from inventory.policy import SHARE_UNITS, ChannelKind, ChannelPolicy
from inventory.topics import CHANNEL_SKU, SIGNALS, STOCK
from projections.states import read_states

#: SKUs in one signal.
MOST = 100

_TABLES = {"stock": "inventory.stock", "overrides": "inventory.channel_sku"}
_FLUSH_SECONDS = 30.0


class Ghost(NamedTuple):
    """Something that is somewhere and not in Postgres, and how it is said to be gone.

    Attributes:
        before: what it is there; what a ledger has booked may be less than nothing.
        version: that it has where it is; the delete counts as the next one.
        addressee: the worker that has it; None for all.
    """

    topic: str
    key: dict[str, str]
    before: dict[str, Any]
    version: int
    addressee: str | None


class Healer:
    """Every method raises `Outage` when a server does not answer.

    Args:
        bootstrap: `host:port[,host:port]` of the brokers.
        pages: Postgres.
        redis: a client with `decode_responses=False`; it is only read.
        partitions: of the stock topic.
    """

    def __init__(self, bootstrap: str, pages: Pages, redis: Redis, partitions: int) -> None:
        self._pages = pages
        self._redis = redis
        self._partitions = partitions
        self._refused: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": 20_000,
                "log_level": 2,
            }
        )

    def heal(self, cases: Sequence[Case], policies: Iterable[ChannelPolicy]) -> None:
        """Have these SKUs sent again, at most `MOST` of them, and say that ghosts are gone."""
        kinds = {f"topic {policy.topic}": policy.kind for policy in policies}
        stock = [c.sku for c in cases if c.exists and any(map(_is_of_stock, c.differences))]
        own = [c.sku for c in cases if any(map(_is_missing_override, c.differences))]
        for case in cases:
            for ghost in _merged(self._ghosts(case, kinds)):
                self._say_gone(ghost)
        if stock or own:
            self._signal({"stock": stock, "overrides": own})
        left = self._producer.flush(_FLUSH_SECONDS)
        refused, self._refused = self._refused, []
        if left or refused:
            why = f" ({refused[0]})" if refused else ""
            raise Outage(f"Kafka takes no repairs{why}; they are tried again.")

    def _signal(self, skus: dict[str, list[str]]) -> None:
        """Ask Debezium to read these rows again (a filtered incremental snapshot)."""
        conditions = {
            _TABLES[table]: self._pages.condition(some) for table, some in skus.items() if some
        }
        self._produce(SIGNALS, KEY, snapshot_signal(conditions), 0)

    def _say_gone(self, ghost: Ghost) -> None:
        row = {**ghost.key, **ghost.before, "version": ghost.version}
        events: list[tuple[str, Any, Any]] = [("d", row, None)]
        if any(ghost.before.get(name, 0) < 0 for name in _BOOKED):
            # No row is below zero, so no delete takes that back: a balance of nothing does.
            row |= dict.fromkeys(_BOOKED, 0)
            events.insert(0, ("r", None, row))
        addressee = ghost.addressee
        headers = [] if addressee is None else [(REPAIR, addressee.encode())]
        partition = self._partition(ghost.key["sku"])
        source = {"connector": "stockwire-auditor", "ts_us": time.time_ns() // 1000}
        for operation, before, after in events:
            value = {"op": operation, "before": before, "after": after, "source": source}
            key = orjson.dumps(ghost.key)
            self._produce(ghost.topic, key, orjson.dumps(value), partition, headers)

    def _produce(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        partition: int,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        try:
            self._producer.produce(
                topic, value, key, partition, headers=list(headers), on_delivery=self._delivered
            )
        except (KafkaException, BufferError) as exc:
            raise Outage(f"Kafka takes no repairs ({exc}); they are tried again.") from exc

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._refused.append(f"{message.topic()}: {error.str()}")

    def _partition(self, sku: str) -> int:
        """Where the SKU's changes are: as Redis knows, or as Debezium's routing computes it."""
        try:
            (state,) = read_states(self._redis, [sku])
        except UNREADABLE:
            state = None
        if state is not None and state.partition is not None:
            return state.partition
        hashed: int = murmur2(sku.encode())
        return (hashed & 0x7FFFFFFF) % self._partitions

    def _ghosts(self, case: Case, kinds: dict[str, ChannelKind]) -> Iterable[Ghost]:
        gone = [d for d in case.differences if d.expected is None]
        for difference in gone:
            if difference.place == "redis overrides":
                yield _override_ghost(difference)
            elif difference.warehouse is None:
                continue
            elif difference.place == "redis stock":
                yield _row_ghost(difference, AVAILABILITY)
            elif kinds.get(difference.place) in (ChannelKind.LEVEL, ChannelKind.MOVEMENT):
                yield _row_ghost(difference, LEDGER)
        listed = any(
            d.warehouse is None and kinds.get(d.place) in (None, ChannelKind.AVAILABILITY)
            for d in gone
        )
        rows = any(d.place == "redis stock" for d in gone)
        if listed and not rows and not case.exists:
            yield from self._listed_ghost(case.sku)

    def _listed_ghost(self, sku: str) -> Iterable[Ghost]:
        """Readers or subscribers have a SKU without rows: a row that is gone tells them so."""
        try:
            (state,) = read_states(self._redis, [sku])
        except UNREADABLE:
            return
        levels = state.levels
        code = max(levels, key=lambda each: levels[each].version, default=None)
        warehouse = code or self._pages.warehouse()
        if warehouse is not None:
            # A delete counts as the next version: of a row that is gone, as the one that it has.
            version = max(0, levels[code].version - 1) if code is not None else 0
            yield Ghost(
                STOCK, {"sku": sku, "warehouse": warehouse}, _NOTHING, version, AVAILABILITY
            )


#: What a ledger adds up.
_BOOKED = ("on_hand", "reserved")

_NOTHING: dict[str, Any] = {
    "on_hand": 0,
    "reserved": 0,
    "safety_stock": 0,
    "incoming": 0,
    "incoming_at": None,
    "reason": "ghost",
    "reference": None,
    "caused_by": "stockwire-auditor",
}


def _is_of_stock(difference: Difference) -> bool:
    return difference.place != "redis overrides" and not (
        difference.expected is None and difference.warehouse is not None
    )


def _is_missing_override(difference: Difference) -> bool:
    return difference.place == "redis overrides" and difference.expected is not None


def _row_ghost(difference: Difference, addressee: str) -> Ghost:
    _, sku, warehouse, _, found = difference
    said = found or {}
    # What a ledger has booked is taken back; a level says nothing of bookings.
    before = {
        **_NOTHING,
        **{name: _whole(said.get(f"sum_{name}")) for name in _BOOKED},
    }
    key = {"sku": sku, "warehouse": warehouse or ""}
    # Rows have even versions; an odd one is of a delete that was told, and has not ended it.
    version = _quantity(said.get("version"))
    return Ghost(STOCK, key, before, version + version % 2, addressee)


def _override_ghost(difference: Difference) -> Ghost:
    _, sku, channel, _, found = difference
    said = dict(found or {})
    version = _quantity(said.pop("version", 0))
    share = said.get("share")
    if isinstance(share, int):
        said["share"] = str(Decimal(share) / SHARE_UNITS)
    return Ghost(CHANNEL_SKU, {"channel": channel or "", "sku": sku}, said, version, None)


def _merged(ghosts: Iterable[Ghost]) -> Iterable[Ghost]:
    """One of each row and addressee: a ledger must not take back twice what it has booked once."""
    found: dict[tuple[str, str, str | None], Ghost] = {}
    for ghost in ghosts:
        about = (ghost.topic, orjson.dumps(ghost.key).decode(), ghost.addressee)
        other = found.get(about, ghost)
        if ghost.topic == STOCK:
            units = {name: ghost.before[name] or other.before[name] for name in _BOOKED}
            ghost = ghost._replace(before={**ghost.before, **units})
        found[about] = ghost._replace(version=max(ghost.version, other.version))
    return found.values()


def _quantity(value: object) -> int:
    return max(0, _whole(value))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
