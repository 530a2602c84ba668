"""A shop for `test_sweep`: one worker's parts on a real Redis, without Kafka."""

import json

from redis.asyncio import Redis

from inventory.names import stock_key
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.topics import STOCK
from projections.fields import PUBLISHED
from projections.marks import MARKS_KEY, Marks
from projections.writer import ProjectionWriter
from stockwire_client.names import availability_key
from stream.agents.availability import AvailabilityAgent
from stream.alerts import Alerts
from stream.inbox import Batch, Inbox
from stream.policy import PolicyTable
from stream.sweep import Sweep
from stream.told import Told
from tests.fakes import FakeAlertLog, FakePublisher, NothingLost
from tests.recorded import altered

PARTS = 2
SKUS = [f"SKU-{n}" for n in range(6)]


def channel(name, **fields):
    return ChannelPolicy(name, ChannelKind.AVAILABILITY, f"stock.{name}.v1", **fields)


def partition_of(sku):
    return int(sku[-1]) % PARTS


class Shop:
    """One worker's parts, without Kafka: batches and steps are taken when a test says so."""

    def __init__(self, runner, url, *policies):
        self.runner = runner
        self.redis = Redis.from_url(url)
        self.publisher = FakePublisher()
        self.table = PolicyTable()
        for policy in policies:
            self.table.put(policy)
        self.held = {0, 1}
        self.version = 0
        self.stock = {}
        self.start()

    def start(self):
        """A new process, or one that was never there."""
        self.inbox = Inbox(100)
        projector = ProjectionWriter(self.redis)
        alerts = Alerts(FakeAlertLog())
        self.told = Told(Marks(self.redis), self.table, self.inbox, lambda: self.held)
        self.sweep = Sweep(
            self.redis,
            self.told,
            projector,
            self.publisher,
            self.table,
            alerts,
            self.inbox,
            lambda: self.held,
            PARTS,
            "worker-1",
            lambda partitions: None,
        )
        self.agent = AvailabilityAgent(self.told, projector, self.publisher, alerts, NothingLost())

    def sell(self, sku, on_hand):
        self.version += 2
        self.stock[sku] = on_hand
        record = altered(
            "stock_update",
            after__sku=sku,
            after__warehouse="ams",
            after__on_hand=on_hand,
            after__reserved=0,
            after__safety_stock=0,
            after__version=self.version,
        )
        batch = Batch([record._replace(topic=STOCK, partition=partition_of(sku))])

        async def work():
            await (await self.agent(batch))

        self.runner.run(work())

    def step(self, most=1):
        """Background work, until there is none or it was enough."""

        async def work():
            for _ in range(most):
                if not self.sweep.ready():
                    return False
                await (await self.sweep.step())
            return self.sweep.ready()

        return self.runner.run(work())

    def finish(self):
        assert not self.step(most=500), "there must be an end to it"

    def rebalance(self):
        self.runner.run(self.inbox.drain(1))

    def topic(self, name):
        """What a reader of the compacted topic has: key → value, without tombstones."""
        latest = {}
        for message in self.publisher.published:
            if message.topic == f"stock.{name}.v1":
                latest[message.key.decode()] = message.value
        return {key: json.loads(value) for key, value in latest.items() if value is not None}

    def ends(self, name):
        return [
            (dict(m.headers)["stockwire_snapshot_part"].decode(), m.partition)
            for m in self.publisher.published
            if m.topic == f"stock.{name}.v1"
            and dict(m.headers).get("stockwire_snapshot") == (b"last")
        ]

    def available(self, name):
        return {key: value["available"] for key, value in self.topic(name).items()}

    def projected(self, sku):
        """The version of a SKU's projection in Redis."""
        return json.loads(self.runner.run(self.redis.hget(stock_key(sku), PUBLISHED)))[2]

    def readers(self, sku):
        """Fields of the hash that readers get."""
        return self.runner.run(self.redis.hkeys(availability_key(sku)))

    def scans(self):
        """How often Redis was asked for SKUs so far."""
        return self.runner.run(self.redis.info("commandstats")).get("cmdstat_scan", {"calls": 0})[
            "calls"
        ]

    def marks(self):
        fields = self.runner.run(self.redis.hgetall(MARKS_KEY))
        return {int(partition): json.loads(marks) for partition, marks in fields.items()}


def leave(shop, name):
    for policy in shop.table.of_kind(ChannelKind.AVAILABILITY):
        if policy.name == name:
            fields = {"name": name, "kind": "availability", "topic": policy.topic}
            gone = {f"before__{field}": value for field, value in fields.items()}
            shop.table.apply(altered("channel_delete", **gone).value)
