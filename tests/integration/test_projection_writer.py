"""The projector in Redis: the contract, and what only a real server shows."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import ResponseError

from inventory.errors import Outage, ProjectionLost
from inventory.names import stock_key
from inventory.policy import ChannelOverride
from projections.checkpoint import Checkpoints
from projections.codec import encode_level, encode_override
from projections.ports import Replaced, SkuChanges
from projections.writer import ProjectionWriter
from stockwire_client.contract import Status
from stockwire_client.names import availability_key
from tests.histories import deliveries, histories, outcome
from tests.integration.redis_driver import RedisDriver, redis_url
from tests.projector_contract import (
    AWKWARD_SKUS,
    NOW,
    POLICIES,
    ProjectorContract,
    assert_numbers,
    fresh_sku,
    gone,
    level,
    on_fresh_skus,
)

pytestmark = pytest.mark.integration

#: Of no row that Postgres will ever have.
FALSE = 2**60


@pytest.fixture
def url(stack, settings):
    return redis_url(settings)


@pytest.fixture
def driver(url):
    with asyncio.Runner() as runner:
        driver = RedisDriver(runner, url)
        yield driver
        driver.close()


class TestRedisProjector(ProjectorContract):
    pass


class TestOneSkuPerCall(ProjectorContract):
    """As Redis Cluster needs it: all keys of a call share a slot."""

    @pytest.fixture
    def driver(self, url):
        with asyncio.Runner() as runner:
            driver = RedisDriver(runner, url, skus_per_call=1)
            yield driver
            driver.close()


class SteppedWriter(ProjectionWriter):
    """Takes its next round trip only when told to."""

    def __init__(self, redis: AsyncRedis, **options) -> None:
        super().__init__(redis, **options)
        self.permits = asyncio.Semaphore(0)
        self.steps = 0

    async def _send(self, commands):
        await self.permits.acquire()
        try:
            return await super()._send(commands)
        finally:
            self.steps += 1

    async def step(self, task: asyncio.Task[None]) -> None:
        """Let the task that uses this writer take one round trip."""
        before = self.steps
        self.permits.release()
        while self.steps == before and not task.done():
            await asyncio.sleep(0)


class TestTwoWriters:
    """A worker that lost its partition may go on for a while beside the new owner."""

    @on_fresh_skus
    @given(data=st.data())
    def test_any_interleaving_ends_like_one_writer(self, driver, data):
        history = data.draw(histories())
        batches = [data.draw(deliveries(history)) for _ in range(2)]
        turns = data.draw(st.lists(st.integers(0, 1), max_size=60))
        sku = fresh_sku()
        told = driver.runner.run(self.race(driver, sku, batches, turns))

        assert driver.state(sku).levels == outcome(history)
        published = driver.state(sku).published
        assert_numbers(published, outcome(history))
        assert max(told, key=lambda projection: projection.version) == published
        by_version = sorted(told, key=lambda projection: projection.version)
        for before, after in itertools.pairwise(by_version):
            assert (before == after) == (before.version == after.version), "one truth per version"
            assert before.revision <= after.revision

    @staticmethod
    async def race(driver, sku, batches, turns):
        told = []

        async def deliver(writer, batches):
            for batch in batches:
                written = await writer.write({sku: SkuChanges(batch)}, POLICIES, {})
                told.extend(written.projections)

        writers = [SteppedWriter(driver.client) for _ in range(2)]
        tasks = [
            asyncio.create_task(deliver(writer, own))
            for writer, own in zip(writers, batches, strict=True)
        ]
        for turn in itertools.chain(turns, itertools.cycle((0, 1))):
            if all(task.done() for task in tasks):
                break
            if not tasks[turn].done():
                await writers[turn].step(tasks[turn])
        await asyncio.gather(*tasks)
        return told

    def test_who_computed_from_an_old_state_is_refused(self, driver):
        async def overtaken():
            slow = SteppedWriter(driver.client, attempts=1)
            task = asyncio.create_task(
                slow.write({sku: SkuChanges({"ams": level(2, 10)})}, POLICIES, {})
            )
            await slow.step(task)
            await driver.writer.write({sku: SkuChanges({"ams": level(4, 3)})}, POLICIES, {})
            await slow.step(task)
            await task

        sku = fresh_sku()
        with pytest.raises(Outage, match=r"Other writers changed 1 SKUs"):
            driver.runner.run(overtaken())
        assert driver.write_one(sku, ams=level(2, 10)).channels["web"].available == 3


def test_the_readers_hash_is_the_contract(driver):
    driver.write_one("{a}", ams=level(2, 10), nyc=level(4, 8))
    assert driver.redis.hgetall("availability:{%7Ba%7D}") == {
        b"web": b"18",
        b"web:status": b"in_stock",
        b"web:version": b"%d" % NOW,
        b"app": b"4",
        b"app:status": b"in_stock",
        b"app:version": b"%d" % NOW,
        b"as_of": b"%d" % (NOW // 1000),
    }


def test_a_channel_that_lost_the_sku_leaves_the_readers_hash(driver):
    sku = fresh_sku()
    driver.write_one(sku, ams=level(2), nyc=level(4))
    driver.write_one(sku, ams=gone(3))
    assert set(driver.redis.hgetall(availability_key(sku))) == {
        b"web",
        b"web:status",
        b"web:version",
        b"as_of",
    }
    driver.write_one(sku, nyc=gone(5))
    assert not driver.redis.exists(availability_key(sku))
    assert driver.redis.exists(stock_key(sku)), "the guard stays"


def test_every_awkward_sku_has_its_own_two_keys(driver):
    driver.write({sku: {"ams": level(2)} for sku in AWKWARD_SKUS})
    assert len(driver.redis.keys("availability:*")) == len(AWKWARD_SKUS)
    assert len(driver.redis.keys("stock:*")) == len(AWKWARD_SKUS)


def test_forgotten_scripts_are_loaded_again(driver):
    sku = fresh_sku()
    driver.write_one(sku, ams=level(2))
    driver.redis.script_flush()
    assert driver.write_one(sku, ams=level(4, 1)).channels["web"].available == 1

    async def flushed_between_the_steps():
        writer = SteppedWriter(driver.client)
        task = asyncio.create_task(
            writer.write({sku: SkuChanges({"ams": level(6, 2)})}, POLICIES, {("stock", 0): 7})
        )
        await writer.step(task)
        driver.redis.script_flush()
        await writer.step(task)
        return await task

    ((projection,), *_) = driver.runner.run(flushed_between_the_steps())
    assert projection.channels["web"].available == 2
    assert driver.state(sku).published == projection
    assert driver.checkpoint() == {("stock", 0): 7}


def test_lost_data_is_written_again_even_between_the_steps(driver):
    sku = fresh_sku()
    driver.write_one(sku, ams=level(2))

    async def lost_between_the_steps():
        writer = SteppedWriter(driver.client)
        task = asyncio.create_task(
            writer.write({sku: SkuChanges({"ams": level(4, 3)})}, POLICIES, {})
        )
        await writer.step(task)
        driver.redis.flushdb()
        while not task.done():
            await writer.step(task)
        return await task

    ((projection,), *_) = driver.runner.run(lost_between_the_steps())
    assert projection.channels["web"].available == 3
    assert driver.state(sku).levels == {"ams": level(4, 3)}


def test_no_checkpoint_is_raised_over_what_is_lost_between_the_steps(driver):
    """Not even the first one, when nothing was acknowledged before."""

    async def lost_between_the_steps():
        await Checkpoints(driver.client).begin()
        writer = SteppedWriter(driver.client)
        writer.begin({})
        task = asyncio.create_task(
            writer.write({sku: SkuChanges({"ams": level(4, 3)})}, POLICIES, {("stock", 0): 7})
        )
        await writer.step(task)
        driver.redis.flushdb()
        while not task.done():
            await writer.step(task)
        await task

    sku = fresh_sku()
    with pytest.raises(ProjectionLost, match="knows less than it has acknowledged"):
        driver.runner.run(lost_between_the_steps())
    assert driver.redis.keys() == []


@pytest.mark.parametrize("bad", ["nonsense", "", "-2 1", "2"])
def test_a_malformed_row_stops_the_call_before_its_first_write(driver, bad, monkeypatch):
    monkeypatch.setattr(
        "projections.writer.encode_level",
        lambda row: bad if row.version == 99 else encode_level(row),
    )
    skus = [fresh_sku(), fresh_sku()]
    with pytest.raises(ResponseError, match="malformed row for key 2"):
        driver.write({skus[0]: {"ams": level(2)}, skus[1]: {"ams": level(99)}})
    assert not driver.redis.exists(*map(stock_key, skus))


@pytest.mark.parametrize("bad", [{"ams": "x"}, {"ams": ""}, {"ams": 7}, {"ams": {}}, 7, "7"])
def test_a_malformed_version_to_be_replaced_stops_the_call_likewise(driver, bad, monkeypatch):
    monkeypatch.setattr("projections.writer._replaced", lambda _: bad)
    sku = fresh_sku()
    with pytest.raises(ResponseError, match="malformed replaced for key 1"):
        driver.write_one(sku, ams=level(2))
    assert not driver.redis.exists(stock_key(sku))


def test_a_falsified_version_is_no_higher_by_its_zeros(driver):
    sku = fresh_sku()
    driver.write_one(sku, ams=level(8))
    driver.redis.hset(stock_key(sku), "ams", "0000000000000008 99 0 0 0 - 5 0")
    driver.write_one(sku, ams=level(10, 3))
    assert driver.state(sku).levels == {"ams": level(10, 3)}
    driver.redis.hset(stock_key(sku), "ams", "000000000000000012 99 0 0 0 - 5 0")
    false = SkuChanges({"ams": gone(9)}, replaced=Replaced({"ams": 12}))
    driver.send({sku: false}, POLICIES, {})
    assert driver.state(sku).levels == {"ams": gone(9)}


GARBAGE = (
    "garbage",
    "",
    "99999999999 x",
    "99999999999999999999 1 2 3",
    "8 99999999999999999999 0 0 0 - 5 0",
    "8 1 0 0 0 - 999999999999999999999 0",
    "8 1 0 0 0 999999999999999999 5 0",
    "9" * 5_000 + " 1 0 0 0 - 5 0",
)


def repaired(driver, sku, **levels):
    """What a worker does when Debezium has read these rows of a SKU again."""
    ((projection,), *_) = driver.send({sku: SkuChanges(levels, repair=True)}, POLICIES, {})
    return projection


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_row_that_nobody_wrote_promises_nothing_and_makes_way(driver, garbage):
    sku = fresh_sku()
    driver.write_one(sku, ams=level(8, 3), lon=level(10, 4))
    driver.redis.hset(stock_key(sku), "ams", garbage)
    assert driver.write_one(sku, lon=level(12, 5)).channels["web"].available == 5
    assert driver.state(sku).unreadable == ("ams",)
    assert repaired(driver, sku, ams=level(8, 3)).channels["web"].available == 8
    assert driver.state(sku).levels == {"ams": level(8, 3), "lon": level(12, 5)}
    assert driver.state(sku).unreadable == ()


@pytest.mark.parametrize("garbage", ["garbage", "99999999999 x", ""])
def test_a_row_that_nobody_wrote_is_overwritten_by_any_change(driver, garbage):
    sku = fresh_sku()
    driver.redis.hset(stock_key(sku), "ams", garbage)
    assert driver.write_one(sku, ams=level(2, 3)).channels["web"].available == 3


@pytest.mark.parametrize("garbage", ["garbage", "99999999999 x", "8 5 - - - - - - 0 0"])
def test_an_override_that_nobody_wrote_blocks_and_makes_way(driver, garbage):
    sku, own = fresh_sku(), ChannelOverride(6, NOW, buffer=2)
    driver.write_one(sku, ams=level(8, 9))
    driver.override(sku, web=own)
    driver.redis.hset(stock_key(sku), ":override:web", garbage)
    told = repaired(driver, sku, ams=level(8, 9)).channels["web"]
    assert (told.available, told.status) == (0, Status.SKU_BLOCKED), "never more than is allowed"
    assert driver.override(sku, web=own).channels["web"].available == 7
    assert driver.state(sku).overrides == {"web": own}


@pytest.mark.parametrize("value", [10**20, -3])
def test_a_false_rule_that_no_message_can_carry_blocks_and_makes_way(driver, value):
    sku, own = fresh_sku(), ChannelOverride(6, NOW)
    driver.write_one(sku, ams=level(8, 9))
    false = own._replace(version=FALSE, share=value, buffer=value)
    driver.redis.hset(stock_key(sku), ":override:web", encode_override(false))
    assert repaired(driver, sku, ams=level(8, 9)).channels["web"].available == 0
    right = SkuChanges({}, {"web": own}, replaced=Replaced({}, {"web": FALSE}))
    ((projection,), *_) = driver.send({sku: right}, POLICIES, {})
    assert projection.channels["web"].available == 9


@pytest.mark.parametrize(
    "text", ["garbage", "-5", "007", "", "9223372036854775807", " 3", "9" * 5_000, None]
)
@pytest.mark.parametrize("again", [level(8, 3), level(10, 4)])
def test_a_revision_that_nobody_wrote_is_counted_up_anew(driver, text, again):
    """By a replay and by a change alike; and what is projected then is what is there."""
    sku = fresh_sku()
    before = driver.write_one(sku, ams=level(8, 3))
    if text is None:
        driver.redis.hdel(stock_key(sku), ":revision")
    else:
        driver.redis.hset(stock_key(sku), ":revision", text)
    told = driver.write_one(sku, ams=again)
    assert told.channels["web"].available == again.on_hand
    assert told.version > before.version
    assert driver.state(sku).unreadable == ()
    driver.redis.hset(stock_key(sku), ":revision", "x")
    driver.apply({sku: SkuChanges({"ams": level(12, 5)})})
    assert driver.write_one(sku, ams=level(12, 5)).channels["web"].available == 5


@pytest.mark.parametrize(
    "text",
    [
        "garbage", "[]", "[1]", "7", '["1","f",2,3,{}]', '[1,"f",1e30,3,{}]', '[2,"f",5,5,[]]',
        '[2,"f",99999999999999999999,5,{}]', '[2,"f",5,5,{"web":[1,"sold",1,null,0,1,null]}]',
        '[2,"f",5,5,{"web":[1,"in_stock",1,9999999999999999,0,1,null]}]',
    ],
)  # fmt: skip
def test_a_projection_that_nobody_wrote_is_none(driver, text):
    sku = fresh_sku()
    driver.write_one(sku, ams=level(8, 3))
    driver.redis.hset(stock_key(sku), ":published", text)
    assert driver.write_one(sku, ams=level(8, 3)).channels["web"].available == 3
    assert driver.state(sku).unreadable == ()


def test_what_nobody_wrote_goes_when_a_sku_is_read_again(driver):
    sku = fresh_sku()
    driver.write_one(sku, ams=level(8, 3))
    odd = {b"": b"8 1 0 0 0 - 5 0", b"WH-9": b"garbage", b":odd": b"1", b":alerted": b"x"}
    odd |= {b":partition": b"-1", b"\xff": b"?", b":override:": b"x"}
    driver.redis.hset(stock_key(sku), mapping=odd)
    assert driver.write_one(sku, ams=level(8, 3)).channels["web"].available == 3
    assert len(driver.state(sku).unreadable) == len(odd)
    repaired(driver, sku, ams=level(8, 3))
    assert driver.state(sku).unreadable == ()
    assert {*driver.redis.hkeys(stock_key(sku))} == {b":revision", b"ams", b":published"}


@pytest.mark.parametrize("rows", [{}, {"ams": level(10, 4)}])
@pytest.mark.parametrize("repair", [False, True])
def test_a_key_of_another_type_ends_no_worker(driver, rows, repair):
    sku = fresh_sku()
    for key in (stock_key(sku), availability_key(sku)):
        driver.redis.set(key, "garbage")
    driver.send({sku: SkuChanges(rows, repair=repair)}, POLICIES, {})
    assert driver.state(sku).levels == rows
    assert driver.write_one(sku, ams=level(12, 5)).channels["web"].available == 5


def test_a_redis_that_is_away_is_an_outage():
    async def write():
        async with AsyncRedis.from_url("redis://127.0.0.1:1/0") as client:
            await ProjectionWriter(client).write(
                {"SKU-1": SkuChanges({"ams": level(2)})}, POLICIES, {}
            )

    with pytest.raises(Outage, match="Redis takes no work"):
        asyncio.run(write())
