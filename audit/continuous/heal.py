"""Sends what drifts through the normal path again; Redis and channels are never written here."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from redis import Redis

from audit.continuous.ghosts import BOOKED, Ghost, Truth, ahead_of, ghosts_of, merged
from audit.continuous.judge import Case
from audit.continuous.pages import Pages
from audit.projection import each_readable
from audit.report import Difference
from connectors.routing import partition_of
from connectors.signals import KEY, snapshot_signal
from inventory.errors import Outage
from inventory.groups import REPAIR, REPLACES
from inventory.policy import ChannelPolicy
from inventory.projection import SkuState
from inventory.topics import CHANNEL_SKU, SIGNALS, STOCK
from projections.checkpoint import read_checkpoints
from projections.states import read_states

#: SKUs in one signal.
MOST = 100

_TABLES = {"stock": "inventory.stock", "overrides": "inventory.channel_sku"}
_FLUSH_SECONDS = 30.0


class Healer:
    """Every method raises `Outage` when a server does not answer, and as `Pages` does.

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
        """Have these SKUs sent again, at most `MOST` of them, and say that ghosts are gone.

        What has come since the cases were judged is no ghost.
        """
        kinds = {f"topic {policy.topic}": policy.kind for policy in policies}
        # Redis first: a version there that Postgres' own figures, which only rise, do not reach
        # was never Postgres'.
        states = self._states([case.sku for case in cases])
        told = read_checkpoints(self._redis).version
        drawn = self._pages.drawn()
        if told is not None and told > drawn.stock + 1:
            raise Outage(
                f"Redis was told of version {told}, and the database has drawn {drawn.stock}: it "
                "was restored (`stockwire doctor`), and nothing is healed before it is recovered."
            )
        now = self._pages.of(states).stock
        stock, own = [], []
        for case in cases:
            state, levels = states[case.sku], now.levels.get(case.sku, {})
            ahead = [*ahead_of(case.sku, state, now)]
            gone = ghosts_of(case, kinds, state, now, drawn, self._pages.warehouse)
            # Not as Redis has it: that may be false as well.
            partition = partition_of(case.sku, self._partitions)
            for ghost in merged(gone):
                self._say_gone(ghost, partition)
            for truth in ahead:
                self._say(truth, partition)
            topics = {truth.topic for truth in ahead}
            if STOCK in topics or (levels and any(map(_is_of_stock, case.differences))):
                stock.append(case.sku)
            if CHANNEL_SKU in topics or any(map(_is_missing_override, case.differences)):
                own.append(case.sku)
        # What Debezium reads again must come behind what takes the false versions' place.
        self._confirm()
        if stock or own:
            self._signal({"stock": stock, "overrides": own})
            self._confirm()

    def _confirm(self) -> None:
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

    def _say_gone(self, ghost: Ghost, partition: int) -> None:
        row = {**ghost.key, **ghost.before, "version": ghost.version}
        events: list[tuple[str, Any, Any]] = [("d", row, None)]
        if any(ghost.before.get(name, 0) < 0 for name in BOOKED):
            # No row is below zero, so no delete takes that back: a balance of nothing does.
            row |= dict.fromkeys(BOOKED, 0)
            events.insert(0, ("r", None, row))
        self._send(ghost, events, partition)

    def _say(self, truth: Truth, partition: int) -> None:
        row = {**truth.key, **truth.row, "version": truth.version}
        self._send(truth, [("r", None, row)], partition)

    def _send(
        self, about: Ghost | Truth, events: Iterable[tuple[str, Any, Any]], partition: int
    ) -> None:
        headers = [] if about.addressee is None else [(REPAIR, about.addressee.encode())]
        if about.replaces is not None:
            headers.append((REPLACES, str(about.replaces).encode()))
        source = {"connector": "stockwire-auditor", "ts_us": time.time_ns() // 1000}
        for operation, before, after in events:
            value = {"op": operation, "before": before, "after": after, "source": source}
            key = orjson.dumps(about.key)
            self._produce(about.topic, key, orjson.dumps(value), partition, headers)

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

    def _states(self, skus: Sequence[str]) -> dict[str, SkuState | None]:
        """What Redis has of SKUs; None for a key of another type."""
        found = each_readable(skus, lambda some: list(read_states(self._redis, some)))
        return {sku: None if isinstance(state, Exception) else state for sku, state in found}


def _is_of_stock(difference: Difference) -> bool:
    return difference.place != "redis overrides" and not (
        difference.expected is None and difference.warehouse is not None
    )


def _is_missing_override(difference: Difference) -> bool:
    return difference.place == "redis overrides" and difference.expected is not None
