"""The projector in Redis, driven from tests, in a database of its own."""

import asyncio
from urllib.parse import urlsplit

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from inventory.settings import Settings
from projections.states import read_states
from projections.writer import CHECKPOINT_KEY, ProjectionWriter
from tests.projector_contract import Driver

#: The workers of the test stack use database 0.
DATABASE = 1


def redis_url(settings: Settings) -> str:
    return urlsplit(str(settings.redis_url))._replace(path=f"/{DATABASE}").geturl()


class RedisDriver(Driver):
    def __init__(self, runner: asyncio.Runner, url: str, **options) -> None:
        self.url = url
        self.runner = runner
        self.redis = Redis.from_url(url)
        self.client = AsyncRedis.from_url(url)
        self.writer = ProjectionWriter(self.client, **options)
        self.redis.flushdb()

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.redis.close()

    def send(self, changes, policies, checkpoint):
        return self.runner.run(self.writer.write(changes, policies, checkpoint))

    def apply(self, changes):
        self.runner.run(self.writer._apply(changes))

    def alerted(self, versions):
        self.runner.run(self.writer.alerted(versions))

    def state(self, sku):
        (state,) = read_states(self.redis, [sku])
        return state

    def checkpoint(self):
        kept = {}
        for field, offset in self.redis.hgetall(CHECKPOINT_KEY).items():
            topic, _, partition = field.decode().rpartition("/")
            kept[topic, int(partition)] = int(offset)
        return kept
