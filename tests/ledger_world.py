"""Postgres, the stock topic, the channels' topics and ledger workers in memory, to be broken."""

import json
from collections import deque
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from inventory.messages import OutgoingMessage
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.standing import Standing
from inventory.topics import STOCK
from stockwire_client.contract import SNAPSHOT, SNAPSHOT_LAST, SNAPSHOT_PART
from stream.agents.ledger import LedgerAgent
from stream.catchup import CatchUp
from stream.inbox import Batch
from stream.lane import Refusal
from stream.policy import PolicyTable
from stream.publisher import Later
from stream.roll import Roll
from stream.standing import Topic
from stream.stock_reader import Chunk
from tests.recorded import Recorded

PARTS = 2
WAREHOUSES = ("W1", "W2")
_COMMITTED_US = 1_795_235_627_000_000


@dataclass
class Stock:
    """Rows as Postgres has them, and the topic that holds their changes."""

    rows: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    logs: list[list[Recorded]] = field(default_factory=lambda: [[] for _ in range(PARTS)])
    ends: list[int] = field(default_factory=lambda: [0] * PARTS)
    version: int = 0

    def change(self, sku: str, warehouse: str, quantity: int | None, caused_by: str | None) -> None:
        """Insert, update or (None) delete a row."""
        key, before = (sku, warehouse), self.rows.get((sku, warehouse))
        if quantity is None and before is None:
            return
        after = None
        if quantity is not None:
            self.version += 2
            after = _row(sku, warehouse, quantity, self.version, caused_by)
            self.rows[key] = after
        else:
            del self.rows[key]
        op = "d" if after is None else "u" if before else "c"
        number = partition_of(sku)
        ts_us = _COMMITTED_US + self.version
        event = {"op": op, "before": before, "after": after, "source": {"ts_us": ts_us}}
        name = json.dumps({"sku": sku, "warehouse": warehouse}).encode()
        record = Recorded(STOCK, number, self.ends[number], name, json.dumps(event).encode())
        self.logs[number].append(record)
        self.ends[number] += 1

    def compact(self, number: int, keep: int) -> None:
        """Take older records of each key, but not among the last `keep`."""
        log = self.logs[number]
        clean = log[: len(log) - keep]
        last = {record.key: record.offset for record in log}
        self.logs[number] = [r for r in clean if last[r.key] == r.offset] + log[len(clean) :]

    def read(self, number: int, position: int, most: int) -> Chunk:
        """What is there from a position on."""
        records = [r for r in self.logs[number] if r.offset >= position][:most]
        return Chunk(records, records[-1].offset + 1 if records else self.ends[number])


def partition_of(sku: str) -> int:
    return ord(sku[-1]) % PARTS


def _row(sku: str, warehouse: str, quantity: int, version: int, caused_by: str | None) -> Any:
    return {
        "sku": sku,
        "warehouse": warehouse,
        "on_hand": quantity,
        "reserved": quantity // 2,
        "safety_stock": 0,
        "incoming": 0,
        "incoming_at": None,
        "version": version,
        "reason": "test",
        "reference": None,
        "caused_by": caused_by,
    }


class FakeStandings:
    """`stream.standing.Standings` in memory."""

    def __init__(self, stock: Stock, topics: Mapping[str, Sequence[OutgoingMessage]]) -> None:
        self.stock = stock
        self.topics = topics
        self.committed: dict[int, int] = {}
        self.kept: dict[str, dict[int, Standing]] = {}
        self.ids: dict[str, str] = {}

    async def positions(self) -> dict[int, int]:
        return dict(self.committed)

    async def read(self) -> dict[str, dict[int, Standing]]:
        return {name: dict(found) for name, found in self.kept.items()}

    async def write(self, channel: str, standings: Mapping[int, Standing]) -> None:
        self.kept.setdefault(channel, {}).update(standings)

    async def forget(self, channel: str) -> None:
        self.kept.pop(channel, None)

    async def end(self, partition: int) -> int:
        return self.stock.ends[partition]

    async def topic(self, name: str) -> Topic | None:
        return Topic(self.ids.get(name, "id"), bool(self.topics.get(name)))


class FakeReading:
    """`stream.stock_reader.Reading` of the stock in memory."""

    def __init__(self, stock: Stock, number: int, position: int, most: int) -> None:
        self._stock, self._number, self._position, self._most = stock, number, position, most

    def ready(self) -> bool:
        return self._position < self._stock.ends[self._number]

    def take(self) -> Chunk:
        chunk = self._stock.read(self._number, self._position, self._most)
        self._position = chunk.position
        return chunk

    def stop(self) -> None:
        """Nothing is open."""


class Handover:
    """Messages handed over together."""

    def __init__(self, messages: Iterable[OutgoingMessage]) -> None:
        self.refused: set[str] = set()
        self.topics = {message.topic for message in messages}


class FakeLanes:
    """A worker's `stream.publisher.Publisher`: a topic's messages may arrive late, in part, never.

    Args:
        topics: what has arrived, by topic.
        down: topics that refuse.
    """

    def __init__(self, topics: dict[str, list[OutgoingMessage]], down: set[str]) -> None:
        self._topics = topics
        self._down = down
        self._pending: deque[tuple[Handover, OutgoingMessage]] = deque()
        self._refusals: dict[str, Refusal] = {}

    async def publish(self, messages: Sequence[OutgoingMessage]) -> Awaitable[frozenset[str]]:
        handover = Handover(messages)
        for topic in handover.topics & self._down:
            self.refuse(topic, 0)
        handover.refused |= handover.topics & self._refusals.keys()
        self._pending += [(handover, m) for m in messages if m.topic not in handover.refused]
        return Later(lambda: self._settled(handover))

    async def _settled(self, handover: Handover) -> frozenset[str]:
        while any(waiting is handover for waiting, _ in self._pending):
            self._arrive(self._pending.popleft()[1])
        return frozenset(handover.refused)

    def refuse(self, topic: str, arrived: int) -> None:
        """Give the topic up; so many of the messages on their way have arrived nevertheless."""
        self._refusals.setdefault(topic, Refusal("down", 0.0, 1, 0.0))
        for handover, message in [item for item in self._pending if item[1].topic == topic]:
            if arrived > 0:
                self._arrive(message)
                arrived -= 1
            handover.refused.add(topic)
        self._pending = deque(item for item in self._pending if item[1].topic != topic)

    def arrive(self, most: int) -> None:
        """Have some messages arrive before anybody waits for them."""
        for _ in range(min(most, len(self._pending))):
            self._arrive(self._pending.popleft()[1])

    def crash(self, arrived: int) -> None:
        """End the process; so many of the messages on their way have arrived nevertheless."""
        for _, message in list(self._pending)[:arrived]:
            self._arrive(message)

    def _arrive(self, message: OutgoingMessage) -> None:
        self._topics.setdefault(message.topic, []).append(message)

    def refusals(self) -> Mapping[str, Refusal]:
        return dict(self._refusals)

    def reopen(self, topic: str) -> bool:
        self._refusals.pop(topic, None)
        return True


class Worker:
    """A ledger worker, step by step."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.held: set[int] = set()
        self.inbox = SimpleNamespace(epoch=0)
        self.lanes = FakeLanes(world.topics, world.down)
        self.positions: dict[int, int] = {}
        self.queue: deque[tuple[Mapping[int, int], Awaitable[None]]] = deque()
        self.confirmed: dict[int, int] = {}
        roll = Roll(world.table, self.lanes, world.standings, self.inbox, lambda: self.held)  # type: ignore[arg-type]
        self.roll = roll
        self.agent = LedgerAgent(roll)
        self.background = CatchUp(roll, self.lanes, world.standings, self._read, PARTS)

    def _read(self, number: int, position: int) -> FakeReading:
        return FakeReading(self.world.stock, number, position, self.world.chunk)

    async def live(self, most: int) -> bool:
        """Handle a batch; False if there is nothing."""
        records: list[Recorded] = []
        for number in sorted(self.held):
            found = self.world.stock.read(number, self.positions[number], most)
            records += found.records
            self.positions[number] = found.position
        if not records:
            return False
        batch = Batch(list(records))
        positions = {number: offset for (_, number), offset in batch.positions.items()}
        self.queue.append((positions, await self.agent(batch)))
        return True

    async def step(self) -> bool:
        """Do some background work; False if there is none."""
        if not self.background.ready():
            return False
        self.queue.append(({}, await self.background.step()))
        return True

    async def settle(self) -> bool:
        """Await the oldest acknowledgement; False if there is none."""
        if not self.queue:
            return False
        positions, acknowledged = self.queue.popleft()
        await acknowledged
        self.confirmed.update(positions)
        return True

    def commit(self) -> None:
        self.world.standings.committed.update(self.confirmed)

    async def revoke(self, meanwhile: int) -> None:
        """Finish what is in hand, with a batch being applied as the partitions go."""
        held, self.held = self.held, set()
        self.inbox.epoch += 1
        if meanwhile and held:
            self.held = held
            await self.live(meanwhile)
            self.held = set()
            await self.step()
        while await self.settle():
            pass
        self.commit()
        self.confirmed = {}

    def assign(self, held: set[int]) -> None:
        self.held = held
        self.positions = {n: self.world.standings.committed.get(n, 0) for n in held}


class World:
    """All of it, with two workers."""

    def __init__(self, chunk: int, *policies: ChannelPolicy) -> None:
        self.chunk = chunk
        self.stock = Stock()
        self.topics: dict[str, list[OutgoingMessage]] = {}
        self.down: set[str] = set()
        self.table = PolicyTable()
        self.gone: dict[str, ChannelPolicy] = {}
        for policy in policies:
            self.table.put(policy)
        self.standings = FakeStandings(self.stock, self.topics)
        self.workers = [Worker(self), Worker(self)]
        self.workers[0].assign(set(range(PARTS)))

    def policies(self) -> dict[str, ChannelPolicy]:
        return {p.name: p for p in self.table.of_kind(ChannelKind.LEVEL, ChannelKind.MOVEMENT)}

    def remove(self, name: str) -> None:
        policy = self.policies().get(name)
        if policy is not None:
            self.table._policies.pop(name)
            self.table._departed[name] = policy
            self.table.revision += 1

    def edit(self, name: str, warehouses: tuple[str, ...] | None) -> None:
        policy = self.policies().get(name)
        if policy is not None:
            self.table.put(replace(policy, warehouses=warehouses))

    def crash(self, number: int, arrived: int) -> None:
        """A worker dies, and another one takes its partitions."""
        died = self.workers[number]
        died.lanes.crash(arrived)
        self.workers[number] = Worker(self)
        self.workers[number].assign(died.held)

    async def rebalance(self, divided: Sequence[int], meanwhile: int) -> None:
        """Each partition goes to the worker named."""
        for worker in self.workers:
            await worker.revoke(meanwhile)
        for number, worker in enumerate(self.workers):
            worker.assign({p for p, owner in enumerate(divided) if owner == number})

    async def come_to_rest(self) -> None:
        """All topics take messages again, and everybody does what is left to do."""
        self.down.clear()
        for _ in range(2000):
            busy = False
            for worker in self.workers:
                busy |= await worker.live(5)
                busy |= await worker.step()
                busy |= await worker.settle()
                worker.commit()
            if not busy:
                return
        raise AssertionError("the workers do not come to rest")

    def last_values(self, topic: str) -> dict[str, Any]:
        """What a compacted topic holds, by key, tombstones included; without ends of back-fills."""
        found: dict[str, Any] = {}
        for message in self.topics.get(topic, ()):
            if (SNAPSHOT, SNAPSHOT_LAST) not in message.headers:
                assert message.key is not None
                found[message.key.decode()] = message.value and json.loads(message.value)
        return found

    def ends(self, topic: str) -> set[tuple[int | None, bytes]]:
        """Where a topic shows the end of which part of a back-fill."""
        return {
            (message.partition, dict(message.headers)[SNAPSHOT_PART])
            for message in self.topics.get(topic, ())
            if (SNAPSHOT, SNAPSHOT_LAST) in message.headers
        }

    def movements(self, topic: str) -> list[Any]:
        """What a ledger was told."""
        told = self.topics.get(topic, ())
        return [json.loads(message.value) for message in told if message.value is not None]
