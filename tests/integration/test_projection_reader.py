"""What a storefront sees, through both readers."""

import asyncio
import threading
from datetime import UTC, datetime

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from inventory.errors import Outage
from projections.reader import AsyncAvailabilityReader, AvailabilityReader
from stockwire_client.contract import Status
from stockwire_client.reader import ChannelAvailability
from tests.integration.redis_driver import RedisDriver, redis_url
from tests.projector_contract import AWKWARD_SKUS, NOW, fresh_sku, gone, level

pytestmark = pytest.mark.integration


@pytest.fixture
def driver(stack, settings):
    with asyncio.Runner() as runner:
        driver = RedisDriver(runner, redis_url(settings))
        yield driver
        driver.close()


class Awaited:
    """An async reader that looks like the sync one."""

    def __init__(self, runner: asyncio.Runner, reader: AsyncAvailabilityReader) -> None:
        self.runner, self.reader = runner, reader

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: self.runner.run(getattr(self.reader, name)(*args))


@pytest.fixture(params=["sync", "async", "sync, decoded", "async, decoded"])
def reader(driver, request):
    kind, _, decoded = request.param.partition(", ")
    if kind == "sync":
        found = AvailabilityReader(Redis.from_url(driver.url, decode_responses=bool(decoded)))
        yield found
        found.close()
    else:
        client = AsyncRedis.from_url(driver.url, decode_responses=bool(decoded))
        awaited = Awaited(driver.runner, AsyncAvailabilityReader(client))
        yield awaited
        awaited.close()


AS_OF = datetime.fromtimestamp(NOW / 1_000_000, UTC)


def test_get(driver, reader):
    sku = fresh_sku()
    driver.write_one(sku, nyc=level(2, 5))
    assert reader.get(sku, "web") == ChannelAvailability(5, Status.LOW_STOCK, NOW, AS_OF, 0, 5)
    assert reader.get(sku, "app") is None
    assert reader.get(fresh_sku(), "web") is None


def test_get_all(driver, reader):
    sku = fresh_sku()
    assert reader.get_all(sku) == {}
    driver.write_one(sku, ams=level(2, 20))
    assert reader.get_all(sku) == {
        "web": ChannelAvailability(20, Status.IN_STOCK, NOW, AS_OF, 0, 20),
        "app": ChannelAvailability(9, Status.IN_STOCK, NOW, AS_OF, 0, 9),
    }


def test_get_many(driver, reader):
    assert reader.get_many([], "web") == {}
    driver.write({sku: {"ams": level(2, i)} for i, sku in enumerate(AWKWARD_SKUS)})
    found = reader.get_many([*AWKWARD_SKUS, "unknown"], "web")
    assert list(found) == [*AWKWARD_SKUS, "unknown"]
    assert [state.available for state in found.values() if state] == [*range(len(AWKWARD_SKUS))]
    assert found["unknown"] is None


def test_wait_for_sees_rows_and_deletes(driver, reader):
    sku = fresh_sku()
    assert not reader.wait_for(sku, "ams", 2, 0.0)
    driver.write_one(sku, ams=level(4))
    assert reader.wait_for(sku, "ams", 2, 0.0)
    assert reader.wait_for(sku, "ams", 4, 0.0)
    assert not reader.wait_for(sku, "ams", 5, 0.05)
    assert not reader.wait_for(sku, "nyc", 2, 0.0)
    driver.write_one(sku, ams=gone(5))
    assert reader.wait_for(sku, "ams", 5, 0.0)


def test_wait_for_waits_for_the_projection_not_for_the_row(driver, reader):
    sku = fresh_sku()
    driver.crash_after_apply({sku: {"ams": level(2)}})
    assert not reader.wait_for(sku, "ams", 2, 0.05)
    driver.write_one(sku, ams=level(2))
    driver.crash_after_apply({sku: {"ams": level(4)}})
    assert not reader.wait_for(sku, "ams", 4, 0.05)
    driver.write_one(sku, ams=level(4))
    assert reader.wait_for(sku, "ams", 4, 0.0)


def test_wait_for_ends_when_the_row_comes(driver):
    sku = fresh_sku()
    with AvailabilityReader.from_url(driver.url) as reader:
        found = []
        waiting = threading.Thread(
            target=lambda: found.append(reader.wait_for(sku, "ams", 2, timeout=30))
        )
        waiting.start()
        driver.write_one(sku, ams=level(2))
        waiting.join()
    assert found == [True]


def test_a_reader_never_sees_half_a_change(driver):
    """`web` sells from two warehouses with the same stock and `app` from one of them."""
    sku = fresh_sku()
    stop = threading.Event()
    looks: list[dict[str, ChannelAvailability]] = []

    def look():
        with AvailabilityReader.from_url(driver.url) as reader:
            while not stop.is_set():
                looks.append(reader.get_all(sku))

    readers = [threading.Thread(target=look) for _ in range(2)]
    for thread in readers:
        thread.start()
    try:
        for n in range(400):
            version = 4 * n + 4
            if n % 10 == 9:
                rows = {code: gone(version + 1, NOW + n) for code in ("ams", "nyc")}
            else:
                rows = {code: level(version, 2 * n, NOW + n) for code in ("ams", "nyc")}
            driver.write({sku: rows})
    finally:
        stop.set()
        for thread in readers:
            thread.join()

    assert len({str(look) for look in looks}) > 10, "the readers saw it move"
    for seen in filter(None, looks):
        assert set(seen) == {"web", "app"}
        web, app = seen["web"], seen["app"]
        assert web.version == app.version
        assert app.available == max(0, (web.available // 2 - 2) // 2)


def test_a_redis_that_is_away_is_an_outage():
    with (
        AvailabilityReader.from_url("redis://127.0.0.1:1/0") as reader,
        pytest.raises(Outage, match="Redis takes no work"),
    ):
        reader.get("SKU-1", "web")

    async def get():
        async with AsyncAvailabilityReader.from_url("redis://127.0.0.1:1/0") as reader:
            await reader.get("SKU-1", "web")

    with pytest.raises(Outage, match="Redis takes no work"):
        asyncio.run(get())
