"""One rebuild at a time, and whose database the shadow may be."""

import os
import signal
import time

import pytest

from inventory.errors import RebuildError
from projections.checkpoint import CHECKPOINT_KEY
from projections.marks import MARKS_KEY
from rebuild import session
from rebuild.progress import (
    DIFFERING_KEY,
    REBUILD_KEY,
    Progress,
)
from rebuild.session import LOCK_KEY, Lock, open_redis
from rebuild.shadow_space import ShadowSpace
from tests.integration.own_redis import own_redis
from tests.integration.rebuild.spaces import LIVE, PORT, Swap, World

pytestmark = pytest.mark.integration


def test_a_database_with_something_else_in_it_is_no_shadow(swap: Swap):
    assert swap.spaces.check(), "one of ours that did not come to its end"
    swap.shadow.delete(REBUILD_KEY)
    with pytest.raises(RebuildError, match="not of a rebuild"):
        swap.spaces.check()
    swap.shadow.flushdb()
    assert not swap.spaces.check()
    swap.shadow.sadd(DIFFERING_KEY, "from an audit that was too late")
    assert not swap.spaces.check()
    assert swap.shadow.dbsize() == 0


def has_a_checkpoint(swap: Swap):
    swap.shadow.hset(CHECKPOINT_KEY, "stock/0", 7)


def has_marks(swap: Swap):
    swap.shadow.hset(MARKS_KEY, "0", b"{}")


def was_switched_to(swap: Swap):
    swap.shadow.hset(REBUILD_KEY, "switched", "drop")


def is_rebuilt_in_place(swap: Swap):
    swap.shadow.hset(REBUILD_KEY, "mode", "in place")


@pytest.mark.parametrize("use", [has_a_checkpoint, has_marks, was_switched_to, is_rebuilt_in_place])
def test_another_stack_s_live_database_is_no_shadow(swap: Swap, use):
    """Its own rebuild was stopped, in place or after its switch."""
    use(swap)
    with pytest.raises(RebuildError, match=r"is in use|not of a rebuild in a shadow"):
        swap.spaces.check()


@pytest.mark.parametrize("use", [has_a_checkpoint, has_marks])
def test_a_database_that_another_stack_uses_meanwhile_is_left_alone(swap: Swap, use):
    use(swap)
    before = swap.shadow.dbsize()
    with pytest.raises(RebuildError, match="is in use"):
        swap.spaces.clear(swap.session)
    with pytest.raises(RebuildError, match="is in use"):
        swap.switch()
    assert swap.shadow.dbsize() == before
    swap.assert_live_is_served()


def test_a_run_that_was_paused_for_too_long_forgets_nothing_of_the_next(swap: Swap):
    for redis in (swap.live, swap.shadow):
        redis.hset(REBUILD_KEY, "owner", "that run")
        redis.sadd(DIFFERING_KEY, "SKU")
    swap.live.set(LOCK_KEY, "that run")
    with pytest.raises(RebuildError, match="lock of the rebuild was lost"):
        Progress(swap.live, swap.session).clear()
    with pytest.raises(RebuildError, match="Another rebuild has taken over"):
        Progress(swap.shadow, swap.session).forget(DIFFERING_KEY)
    assert swap.live.exists(REBUILD_KEY, DIFFERING_KEY) == 2
    assert swap.shadow.exists(REBUILD_KEY, DIFFERING_KEY) == 2


def test_there_must_be_such_a_database_and_memory_for_it(world: World):
    beyond = ShadowSpace(world.url, 99)
    with pytest.raises(RebuildError, match="no database 99"):
        beyond.check()
    beyond.close()
    spaces = ShadowSpace(world.url)
    used = world.redis[LIVE].info("memory")["used_memory"]
    world.redis[LIVE].config_set("maxmemory", int(1.5 * used))
    try:
        with pytest.raises(RebuildError, match="raise maxmemory"):
            spaces.check()
    finally:
        world.redis[LIVE].config_set("maxmemory", 0)
        spaces.close()


def test_one_rebuild_at_a_time(world: World):
    redis = world.redis[LIVE]
    with Lock.held(redis), pytest.raises(RebuildError, match="runs already"), Lock.held(redis):
        pass
    assert not redis.exists(LOCK_KEY)


def test_who_leaves_does_not_wait_for_a_redis_that_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_LEAVE_SECONDS", 0.5)
    with own_redis(tmp_path, PORT + 5) as url, open_redis(url) as redis:
        server = redis.info("server")["process_id"]
        started = time.monotonic()

        def interrupted():
            os.kill(server, signal.SIGSTOP)
            raise KeyboardInterrupt

        try:
            with pytest.raises(KeyboardInterrupt), Lock.held(redis):
                interrupted()
            assert time.monotonic() - started < 5
        finally:
            os.kill(server, signal.SIGCONT)


def test_a_lock_that_is_another_s_is_found_out_and_left_alone(world: World):
    redis = world.redis[LIVE]
    with Lock.held(redis) as lock:
        lock.check()
        redis.set(LOCK_KEY, "that run", px=60_000)
        with pytest.raises(RebuildError, match="lock of the rebuild was lost"):
            lock.check()
    assert redis.get(LOCK_KEY) == b"that run"
