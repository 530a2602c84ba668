"""All stores as the pipeline's own functions leave them, for audits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any

from audit.compare import (
    ProjectionSnapshot,
    StockSnapshot,
    TopicSnapshot,
    compare,
    override_fields,
    row_fields,
)
from audit.report import AuditReport, Fields, Key
from audit.subscriber import Record, subscriber
from inventory.messages import (
    OutgoingMessage,
    availability_messages,
    level_message,
    movement_message,
    snapshot_end,
    timestamp,
)
from inventory.policy import (
    NO_OVERRIDES,
    ChannelKind,
    ChannelOverride,
    ChannelPolicy,
    PolicySet,
)
from inventory.projection import SkuState, project
from inventory.stock import Operation, StockChange, StockRow, level_of
from tests.histories import Change

POLICIES = (
    ChannelPolicy("app", ChannelKind.AVAILABILITY, "stock.app.v1", ("ams",), 1, 5_000),
    ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1"),
    ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1"),
    ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1", ("ams", "lon")),
)


@dataclass(frozen=True)
class World:
    """All stores, as three snapshots."""

    stock: StockSnapshot
    projection: ProjectionSnapshot
    topics: dict[str, TopicSnapshot]

    def report(self) -> AuditReport:
        return compare(self.stock, self.projection, self.topics)

    def drift(self) -> dict[str, int]:
        return {place.place: place.drift for place in self.report().places if place.drift}

    def with_row(self, key: Key, **changes: Any) -> "World":
        rows = _changed(self.projection.rows, key, changes)
        return replace(self, projection=replace(self.projection, rows=rows))

    def with_told(self, channel: str, key: Key, **changes: Any) -> "World":
        told = self.projection.channels
        channels = {**told, channel: _changed(told[channel], key, changes)}
        return replace(self, projection=replace(self.projection, channels=channels))

    def without_told(self, channel: str) -> "World":
        rest = {name: told for name, told in self.projection.channels.items() if name != channel}
        return replace(self, projection=replace(self.projection, channels=rest))

    def with_override(self, key: Key, **changes: Any) -> "World":
        overrides = _changed(self.projection.overrides, key, changes)
        return replace(self, projection=replace(self.projection, overrides=overrides))

    def with_message(self, topic: str, key: Key, **changes: Any) -> "World":
        there = self.topics[topic]
        changed = replace(there, messages=_changed(there.messages, key, changes))
        return replace(self, topics={**self.topics, topic: changed})

    def without_message(self, topic: str, key: Key, kept_since_us: int | None = None) -> "World":
        rest = {k: fields for k, fields in self.topics[topic].messages.items() if k != key}
        return replace(self, topics={**self.topics, topic: TopicSnapshot(rest, kept_since_us)})

    def with_policies(self, *policies: ChannelPolicy) -> "World":
        """The policies have changed, and nobody was told."""
        return replace(self, stock=replace(self.stock, policies=policies))


def _changed(there: Any, key: Key, changes: dict[str, Any]) -> dict[Key, Fields]:
    return {**there, key: {**there.get(key, {}), **changes}}


def world(
    history: Iterable[Change],
    sku: str = "S",
    policies: tuple[ChannelPolicy, ...] = POLICIES,
    overrides: Mapping[str, ChannelOverride] = NO_OVERRIDES,
    causes: Iterable[str | None] = (),
) -> World:
    """What the pipeline's own functions make of a SKU's history.

    Args:
        history: its committed changes.
        sku: its name.
        policies: of all channels.
        overrides: what the SKU has of its own from the beginning, by channel.
        causes: who has caused each change; None for all after the last of these.
    """
    rows: dict[str, StockRow] = {}
    state = SkuState(sku, 0, {}, None, overrides)
    sellers = PolicySet.of(policies)
    readers = {p.topic: subscriber(p.kind, (), 0) for p in policies}

    def publish(message: OutgoingMessage) -> None:
        assert message.key is not None
        readers[message.topic].take(Record(0, message.key, message.value, 0))

    for (warehouse, level), cause in zip(history, chain(causes, repeat(None)), strict=False):
        before = rows.pop(warehouse, None)
        operation = Operation.DELETE if level.deleted else Operation.UPDATE
        if not level.deleted:
            rows[warehouse] = StockRow(*level[:6], caused_by=cause)
        change = StockChange(
            operation, sku, warehouse, before, rows.get(warehouse), level.committed_us
        )
        for message in _ledger_messages(change, policies):
            publish(message)
        levels = {**state.levels, warehouse: level_of(change)}
        projection = project(state._replace(revision=state.revision + 1, levels=levels), sellers)
        state = SkuState(sku, projection.revision, levels, projection, overrides)
        for message in availability_messages(
            projection, [(p.name, p.topic) for p in sellers.policies]
        ):
            publish(message)
    for topic in readers:
        publish(snapshot_end(topic, 0, 0, 1))
    live = {code: level for code, level in state.levels.items() if not level.deleted}
    own = {policy.echo_of for policy in policies}
    echoes = {
        Key(sku, code): row.caused_by
        for code, row in rows.items()
        if row.caused_by is not None and row.caused_by in own
    }
    channels = {} if state.published is None else state.published.channels
    told = {
        policy.name: {
            Key(sku): {
                "available": s.available,
                "status": s.status,
                "backorderable": s.backorderable,
                "order_limit": s.order_limit,
                "version": s.version,
            }
            for s in [channels.get(policy.name)]
            if s is not None
        }
        for policy in sellers.policies
    }
    return World(
        StockSnapshot({sku: live} if live else {}, policies, 0, {sku: overrides}, echoes),
        ProjectionSnapshot(
            {Key(sku, code): row_fields(level) for code, level in live.items()},
            told,
            {Key(sku, name): override_fields(row) for name, row in overrides.items()},
        ),
        {topic: reader.snapshot() for topic, reader in readers.items()},
    )


def _ledger_messages(
    change: StockChange, policies: Iterable[ChannelPolicy]
) -> Iterable[OutgoingMessage]:
    """As the ledger agent tells it: a ledger hears nothing of what it has caused itself."""
    committed_at = timestamp(change.committed_us)
    for policy in policies:
        if not policy.sells_from(change.warehouse):
            continue
        if policy.kind is ChannelKind.LEVEL:
            yield level_message(change, policy, committed_at)
        elif policy.kind is ChannelKind.MOVEMENT and not (
            change.after is not None and policy.is_echo(change.after.caused_by)
        ):
            yield movement_message(change, policy, committed_at)
