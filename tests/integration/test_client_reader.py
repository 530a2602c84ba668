"""The kit's readers on a real Redis."""

import asyncio
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ResponseError

from stockwire_client import (
    AsyncAvailabilityReader,
    AvailabilityReader,
    ChannelAvailability,
    Status,
    Unavailable,
)
from stockwire_client.names import availability_key
from tests.projector_contract import AWKWARD_SKUS

pytestmark = pytest.mark.integration

#: Workers use database 0 of the test stack, the projection's tests 1.
DATABASE = 2
AS_OF = datetime(2026, 11, 21, 6, 19, 24, 255000, UTC)


@pytest.fixture(scope="module")
def url(stack, settings):
    return urlsplit(str(settings.redis_url))._replace(path=f"/{DATABASE}").geturl()


@pytest.fixture
def redis(url):
    with Redis.from_url(url) as client:
        client.flushdb()
        yield client


class Awaited:
    """An async reader that looks like the sync one."""

    def __init__(self, runner, reader):
        self.runner, self.reader = runner, reader

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: self.runner.run(getattr(self.reader, name)(*args))


@pytest.fixture(params=["sync", "async"])
def open_reader(request):
    with asyncio.Runner() as runner:
        opened = []

        def open_one(url, **options):
            if request.param == "sync":
                opened.append(AvailabilityReader(Redis.from_url(url, **options)))
            else:
                client = AsyncRedis.from_url(url, **options)
                opened.append(Awaited(runner, AsyncAvailabilityReader(client)))
            return opened[-1]

        yield open_one
        for reader in opened:
            reader.close()


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
def reader(open_reader, url, redis, request):
    return open_reader(url, decode_responses=request.param)


def put(redis, sku, channel="web", available=5, status="in_stock", **more):
    fields = {
        channel: available,
        f"{channel}:status": status,
        f"{channel}:version": 9,
        "as_of": int(AS_OF.timestamp() * 1000),
        **{f"{channel}:{name}": value for name, value in more.items()},
    }
    redis.hset(availability_key(sku), mapping=fields)


def test_get(redis, reader):
    put(redis, "A")
    assert reader.get("A", "web") == ChannelAvailability(5, Status.IN_STOCK, 9, AS_OF, 0, 5)
    assert isinstance(reader.get("A", "web").status, Status)
    assert reader.get("A", "app") is None
    assert reader.get("B", "web") is None


def test_what_is_written_only_where_a_policy_asks_for_it(redis, reader):
    put(redis, "A", available=0, status="backorder", backorderable=7)
    assert reader.get("A", "web")[4:] == (7, 7)
    put(redis, "B", order_limit=2)
    assert reader.get("B", "web")[4:] == (0, 2)
    put(redis, "C", available=0, status="backorder", backorderable=7, order_limit=3)
    assert reader.get("C", "web")[4:] == (7, 3)
    put(redis, "D", available=0, status="sku_blocked", order_limit=0)
    assert reader.get("D", "web")[4:] == (0, 0)


def test_a_status_of_a_later_version_is_a_plain_string(redis, reader):
    put(redis, "A", status="pre_order")
    assert reader.get("A", "web").status == "pre_order"


def test_get_all(redis, reader):
    assert reader.get_all("A") == {}
    put(redis, "A")
    put(redis, "A", "app", available=2, status="low_stock", order_limit=1)
    assert reader.get_all("A") == {
        "web": ChannelAvailability(5, Status.IN_STOCK, 9, AS_OF, 0, 5),
        "app": ChannelAvailability(2, Status.LOW_STOCK, 9, AS_OF, 0, 1),
    }


def test_get_many(redis, reader):
    assert reader.get_many([], "web") == {}
    for units, sku in enumerate(AWKWARD_SKUS):
        put(redis, sku, available=units)
    found = reader.get_many([*AWKWARD_SKUS, "unknown"], "web")
    assert list(found) == [*AWKWARD_SKUS, "unknown"]
    assert found["unknown"] is None
    assert [found[sku].available for sku in AWKWARD_SKUS] == [*range(len(AWKWARD_SKUS))]


def test_a_redis_that_is_away_is_unavailable(open_reader):
    away = open_reader("redis://127.0.0.1:1/0")
    for ask in (lambda: away.get("A", "web"), lambda: away.get_many(["A"], "web")):
        with pytest.raises(Unavailable, match=r"Redis does not answer .*127\.0\.0\.1:1"):
            ask()


def test_a_fault_that_waiting_does_not_mend_passes_through(redis, reader):
    redis.set(availability_key("A"), "not a hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        reader.get("A", "web")


def test_from_url(redis, url):
    put(redis, "A")
    with AvailabilityReader.from_url(url) as reader:
        assert reader.get("A", "web") is not None

    async def ask():
        async with AsyncAvailabilityReader.from_url(url) as reader:
            return await reader.get("A", "web")

    assert asyncio.run(ask()) is not None
