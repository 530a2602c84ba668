"""Redis forgets, in every way it can: the worker notices by itself, and nothing stays wrong."""

import shutil
import signal

import pytest
from confluent_kafka import Producer
from psycopg import sql
from redis import Redis

from bench.load import seed_catalogue
from connectors.signals import KEY, snapshot_signal
from inventory.names import stock_key
from inventory.topics import SIGNALS, STOCK
from projections.checkpoint import CHECKPOINT_KEY, read_checkpoints
from projections.marks import MARKS_KEY
from stockwire_client.names import availability_key, channel_topic
from tests.e2e.selling import SKUS, WAREHOUSES, assert_no_drift, selling
from tests.e2e.test_faults import INSERT, python_module
from tests.polling import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def redis(settings):
    with Redis.from_url(str(settings.redis_url)) as redis:
        yield redis


@pytest.fixture
def workers(stack, settings, redis):
    """The workers run before and after the test, and Redis is whole."""
    stack.start_workers()
    seed_catalogue(settings.conninfo(), skus=SKUS, warehouses=WAREHOUSES)
    assert_no_drift(settings)
    eventually(lambda: read_checkpoints(redis).offsets)
    yield stack
    if not next(p for p in stack.status() if p.part == "redis").answers:
        stack.start_part("redis")
    stack.start_workers()


def append_only(settings):
    """What Redis keeps on disk: a file, and a directory from Redis 7 on."""
    return [*(settings.stack_dir / "data" / "redis").glob("appendonly*")]


def remove(paths):
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def copy(paths, to):
    for path in paths:
        if path.is_dir():
            shutil.copytree(path, to / path.name)
        else:
            shutil.copy(path, to)


def assert_whole_again(settings, redis):
    assert_no_drift(settings)
    state = read_checkpoints(redis)
    assert {part for topic, part in state.offsets if topic == STOCK} == {
        *range(settings.partitions)
    }
    assert eventually(lambda: not read_checkpoints(redis).restoring)
    return state


def test_everything_is_deleted_while_changes_flow(workers, settings, redis):
    with selling(settings, seed=61):
        before = read_checkpoints(redis)
        redis.flushall()
        eventually(lambda: (read_checkpoints(redis).version or 0) > before.version)
    state = assert_whole_again(settings, redis)
    assert state.version >= before.version
    assert len(redis.hgetall(MARKS_KEY)) == settings.partitions


def test_redis_starts_again_without_its_file(workers, settings, redis):
    with selling(settings, seed=62):
        workers.stop_part("redis")
        assert append_only(settings)
        remove(append_only(settings))
        workers.start_part("redis")
    assert_whole_again(settings, redis)


def test_redis_starts_again_with_an_older_file(workers, settings, redis, tmp_path):
    """As a failover to a replica that is behind, or a power cut, leaves it."""
    with selling(settings, seed=63):
        before = read_checkpoints(redis)
        copy(append_only(settings), tmp_path)
        eventually(lambda: read_checkpoints(redis).version > before.version + 1000)
        workers.stop_part("redis")
        remove(append_only(settings))
        copy(tmp_path.iterdir(), settings.stack_dir / "data" / "redis")
        workers.start_part("redis")
    assert_whole_again(settings, redis)


def test_what_fell_back_is_noticed_when_nobody_sells(
    workers, settings, database, redis, reader, tail, sku
):
    database.execute(INSERT, [sku, "T-1", 5])
    eventually(lambda: reader.get(sku, "web"))
    keys = (stock_key(sku), availability_key(sku), CHECKPOINT_KEY)
    older = {key: redis.dump(key) for key in keys}
    database.execute("UPDATE inventory.stock SET on_hand = 4 WHERE sku = %s", [sku])
    eventually(lambda: reader.get(sku, "web").available == 4)
    web = tail(channel_topic("web"))
    with redis.pipeline(transaction=True) as pipeline:
        for key, value in older.items():
            pipeline.restore(key, 0, value, replace=True)
        pipeline.execute()
    told = web.until(lambda m: m.key == sku.encode()).json
    assert told["available"] == 4
    assert reader.get(sku, "web").available == 4
    assert_whole_again(settings, redis)


def test_the_checkpoint_of_one_partition_is_missing(workers, settings, redis):
    redis.hdel(CHECKPOINT_KEY, f"{STOCK}/3")
    eventually(lambda: redis.hget(CHECKPOINT_KEY, ":restoring/3") == b"2")
    assert_whole_again(settings, redis)


def test_a_crash_while_rows_are_loaded_goes_on_with_that(workers, settings, redis, database, sku):
    """Nothing is projected from the part that is there."""
    for warehouse, on_hand in (("T-1", 3), ("T-2", 4)):
        database.execute(INSERT, [sku, warehouse, on_hand])
    assert_no_drift(settings)
    workers.stop_part("availability")
    committed = read_checkpoints(redis)
    redis.flushall()
    crashing = python_module("tests.e2e.crashing_worker", "load", sku)
    try:
        assert crashing.wait(timeout=60) == -signal.SIGKILL
    finally:
        crashing.kill()
    state = read_checkpoints(redis)
    assert state.restoring == {*range(settings.partitions)}
    assert sum(state.offsets.values()) < sum(committed.offsets.values())
    assert redis.keys("stock:*")
    assert redis.keys("availability:*") == []
    workers.start_part("availability")
    assert_whole_again(settings, redis)


def test_a_key_that_is_gone_is_made_good_by_reading_its_rows_again(
    nobody_heals, workers, settings, database, redis, reader, tail, sku
):
    for warehouse, on_hand in (("T-1", 3), ("T-2", 4)):
        database.execute(INSERT, [sku, warehouse, on_hand])
    eventually(lambda: (found := reader.get(sku, "web")) and found.available == 7)
    before = reader.get(sku, "web")
    web = tail(channel_topic("web"))
    redis.delete(stock_key(sku), availability_key(sku))
    read_again(settings, sku)
    told = web.until(lambda m: m.key == sku.encode() and m.json["available"] == 7).json
    found = reader.get(sku, "web")
    assert (found.available, found.version) == (7, told["version"])
    assert found.version > before.version
    # Once more, with nothing missing: whoever lost the message hears it again.
    read_again(settings, sku)
    again = web.until(lambda m: m.key == sku.encode() and m.json["version"] > found.version)
    assert again.json["available"] == 7


def read_again(settings, sku):
    """An incremental snapshot of one SKU's rows."""
    condition = sql.SQL("sku = {}").format(sku).as_string()
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    producer.produce(SIGNALS, snapshot_signal({"inventory.stock": condition}), KEY)
    assert producer.flush(30) == 0
