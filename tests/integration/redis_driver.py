"""The projector in Redis, driven from tests, in a database of its own."""

import asyncio
from urllib.parse import urlsplit

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from inventory.settings import Settings
from projections.checkpoint import CHECKPOINT_KEY, Checkpoints, CheckpointState, read_checkpoints
from projections.states import read_states
from projections.writer import ProjectionWriter
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
        self.kept = Checkpoints(self.client)
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

    def begin(self, known, restoring=()):
        self.runner.run(self.kept.begin())
        self.runner.run(self.kept.restore(restoring, ()))
        self.writer.begin(known, restoring)

    def check(self):
        self.runner.run(self.writer.check())

    def load(self, changes, checkpoint):
        self.runner.run(self.writer.load(changes, checkpoint))

    def checkpoints(self) -> CheckpointState:
        return read_checkpoints(self.redis)

    def lose(self, kept):
        fields = {f"{topic}/{partition}": offset for (topic, partition), offset in kept.items()}
        self.redis.delete(CHECKPOINT_KEY)
        if fields:
            self.redis.hset(CHECKPOINT_KEY, mapping={":begun": 1, **fields})
