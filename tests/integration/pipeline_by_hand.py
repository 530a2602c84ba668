"""What the workers do, one step at a time and by hand, on topics and a Redis of its own."""

import asyncio
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from confluent_kafka import Producer
from redis.asyncio import Redis as AsyncRedis

from audit.sku import read_facts
from inventory.messages import availability_messages, level_message, movement_message, timestamp
from inventory.stock import Operation, StockChange
from projections.ports import SkuChanges
from projections.writer import ProjectionWriter

#: The workers of the test stack use database 0, the projector's tests 1.
REDIS_DATABASE = 2


class Pipeline:
    """What the workers do, one step at a time and by hand."""

    def __init__(self, conninfo, settings):
        self.conninfo = conninfo
        self.bootstrap = settings.kafka_bootstrap
        self.redis_url = (
            urlsplit(str(settings.redis_url))._replace(path=f"/{REDIS_DATABASE}").geturl()
        )
        self.producer = Producer(
            {"bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random"}
        )
        suffix = uuid4().hex[:8]
        self.topics = {name: f"explain.{name}.{suffix}" for name in ("web", "app", "wms", "erp")}

    def sql(self, text, parameters=()):
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            return connection.execute(text, parameters)

    def stock(
        self,
        sku,
        warehouse="W1",
        on_hand=10,
        reserved=0,
        safety_stock=0,
        reason=None,
        reference=None,
    ):
        self.sql(
            "INSERT INTO inventory.stock"
            " (sku, warehouse, on_hand, reserved, safety_stock, reason, reference)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [sku, warehouse, on_hand, reserved, safety_stock, reason, reference],
        )

    def facts(self, sku):
        return read_facts(self.conninfo, sku)

    def write_redis(self, sku):
        facts = self.facts(sku)

        async def write():
            async with AsyncRedis.from_url(self.redis_url) as client:
                changes = {sku: SkuChanges(facts.levels, facts.overrides, 0)}
                return await ProjectionWriter(client).write(changes, facts.sellers, {})

        return asyncio.run(write()).projections[0]

    def publish(self, *messages):
        for message in messages:
            self.producer.produce(
                message.topic, message.value, message.key, headers=message.headers
            )
        assert self.producer.flush(30) == 0

    def tell_availability(self, sku):
        projection = self.write_redis(sku)
        channels = [(name, self.topics[name]) for name in ("web", "app")]
        self.publish(*availability_messages(projection, channels))
        return projection

    def tell_rows(self, sku):
        facts = self.facts(sku)
        policies = {policy.name: policy for policy in facts.policies}
        for code, (row, at) in facts.rows.items():
            change = StockChange(Operation.READ, sku, code, None, row, at)
            self.publish(
                level_message(change, policies["wms"], timestamp(at)),
                movement_message(change, policies["erp"], timestamp(at)),
            )

    def raw(self, name, key, value):
        self.producer.produce(self.topics[name], value, key.encode())
        assert self.producer.flush(30) == 0
