"""The spaces of `tests.integration.rebuild.spaces`, and the Redis that they are in."""

import asyncio

import pytest

from tests.integration.own_redis import own_redis
from tests.integration.rebuild.spaces import PORT, Swap, World


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with own_redis(tmp_path_factory.mktemp("redis"), PORT) as url:
        yield url


@pytest.fixture
def world(url):
    with asyncio.Runner() as runner:
        world = World(runner, url)
        yield world
        for client in world.clients.values():
            runner.run(client.aclose())
        for client in world.redis.values():
            client.close()


@pytest.fixture
def swap(world: World):
    swap = Swap(world)
    yield swap
    swap.spaces.close()
