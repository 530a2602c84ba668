"""Redis loses all of its data, some of it, or holds what nobody has put there."""

import shutil

from inventory.names import stock_key
from inventory.stock import StockLevel
from projections.codec import encode_level
from stockwire_client.names import availability_key
from tests.chaos.fault import Timeline
from tests.chaos.world import World
from tests.polling import eventually

_RARE = ("SKU-00287", "SKU-00288")
_GHOST = "GHOST-1"


def flush_all(world: World, timeline: Timeline) -> None:
    """FLUSHALL."""
    with world.redis() as client:
        before = client.dbsize()
        timeline.inject()
        client.flushall()
        timeline.prove(before > client.dbsize(), f"{before:,} keys were gone at once")
    timeline.heal()


def restart_empty(world: World, timeline: Timeline) -> None:
    """A restart of a Redis without persistence: it comes back with nothing."""
    with world.redis() as client:
        before, run = client.dbsize(), client.info("server")["run_id"]
    timeline.inject()
    world.stack.stop_part("redis")
    for path in (world.stack.places.data / "redis").iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    world.stack.start_part("redis")
    timeline.heal()
    with world.redis() as client:
        now = client.info("server")["run_id"]
        timeline.prove(now != run, f"another run of Redis, which began without {before:,} keys")


def restart_behind(world: World, timeline: Timeline) -> None:
    """Redis comes back as it was some seconds ago, as after a failover to a lagging replica."""
    data, copy = world.stack.places.data / "redis", world.stack.places.data / "redis.copy"
    with world.redis() as client:
        shutil.copytree(data, copy)
        sold = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
        eventually(
            lambda: client.info("commandstats")["cmdstat_evalsha"]["calls"] > sold + 500, timeout=30
        )
        written = client.info("commandstats")["cmdstat_evalsha"]["calls"] - sold
    timeline.inject()
    world.stack.stop_part("redis")
    shutil.rmtree(data)
    copy.rename(data)
    world.stack.start_part("redis")
    timeline.heal()
    timeline.prove(written > 500, f"at least {written:,} writes were forgotten")


def delete_key(world: World, timeline: Timeline) -> None:
    """A reader's key and a working state, of two SKUs that seldom sell, are deleted."""
    with world.redis() as client:
        timeline.inject()
        gone = client.delete(availability_key(_RARE[0]), stock_key(_RARE[1]))
    timeline.heal()
    timeline.prove(gone == 2, "two keys were deleted")


def add_ghost(world: World, timeline: Timeline) -> None:
    """A SKU that Postgres does not know is put into Redis, state and readers' hash alike."""
    level = StockLevel(7, 0, 0, 0, None, 2, 1)
    with world.redis() as client:
        like = client.hgetall(availability_key(_RARE[0]))
        timeline.inject()
        client.hset(stock_key(_GHOST), "WH-1", encode_level(level))
        client.hset(availability_key(_GHOST), mapping=like)
        timeline.prove(client.exists(availability_key(_GHOST)), f"{_GHOST} could be bought")
        timeline.heal()
        gone = eventually(lambda: not client.exists(availability_key(_GHOST)), timeout=150)
        timeline.prove(gone, "gone again")
