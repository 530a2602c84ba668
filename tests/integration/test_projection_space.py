"""Both hashes of many SKUs in a Redis of the test's own: bulk-written, mended, and switched."""

import asyncio
import os
import signal
import time
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from inventory.errors import RebuildError
from inventory.names import stock_key
from inventory.policy import ChannelOverride
from inventory.stock import StockLevel
from projections.checkpoint import CHECKPOINT_KEY
from projections.marks import MARKS_KEY, REFUSALS_KEY
from projections.ports import SkuChanges
from projections.space import Space
from projections.writer import ProjectionWriter
from rebuild import follow, session
from rebuild.mend import Check, Load, Mend, is_right, wanted_of
from rebuild.options import Options, Result
from rebuild.portion import Portion
from rebuild.progress import (
    DIFFERING_KEY,
    OWN_KEYS,
    REBUILD_KEY,
    SUSPECTS_KEY,
    Plan,
    Progress,
)
from rebuild.session import LOCK_KEY, Lock, Session, open_redis, run_id_of
from rebuild.shadow import Shadow
from rebuild.shadow_space import ShadowSpace, Switched, url_of
from stockwire_client.names import availability_key
from tests.histories import deliveries, histories, outcome
from tests.integration.own_redis import own_redis
from tests.projector_contract import (
    AWKWARD_SKUS,
    NOW,
    POLICIES,
    fresh_sku,
    gone,
    level,
    on_fresh_skus,
)

pytestmark = pytest.mark.integration

PORT = 31571
#: The ordinary writer's space, the live one and its shadow.
ORDINARY, LIVE, SHADOW = 5, 0, 1
OWNER = "this run"
PARTS = {"stock/0": "5", "stock/1": "0"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with own_redis(tmp_path_factory.mktemp("redis"), PORT) as url:
        yield url


class World:
    """The three spaces, and the writer that workers use."""

    def __init__(self, runner, url):
        self.runner = runner
        self.url = url
        self.redis = {n: Redis.from_url(url_of(url, n)) for n in (ORDINARY, LIVE, SHADOW)}
        self.clients = {n: AsyncRedis.from_url(url_of(url, n)) for n in (ORDINARY, LIVE)}
        for client in self.redis.values():
            client.flushdb()

    def write(self, changes, space=ORDINARY):
        writer = ProjectionWriter(self.clients[space])
        return self.runner.run(writer.write(changes, POLICIES, {})).projections

    def load(self, changes):
        self.redis[SHADOW].hset(REBUILD_KEY, "owner", OWNER)
        load = Load(self.redis[LIVE], self.redis[SHADOW], POLICIES, OWNER)
        return load.take(Portion(changes, {}, len(changes)))

    def mend(self, changes):
        mend = Mend(self.redis[LIVE], POLICIES, patience=0.1)
        return mend.take(Portion(changes, {}, len(changes)))

    def hashes(self, space, sku):
        redis = self.redis[space]
        return redis.hgetall(stock_key(sku)), redis.hgetall(availability_key(sku))

    def suspects(self):
        return {sku.decode() for sku in self.redis[SHADOW].smembers(SUSPECTS_KEY)}


@pytest.fixture
def world(url):
    with asyncio.Runner() as runner:
        world = World(runner, url)
        yield world
        for client in world.clients.values():
            runner.run(client.aclose())
        for client in world.redis.values():
            client.close()


@st.composite
def overrides(draw):
    given = draw(st.integers(0, 2))
    return {
        channel: ChannelOverride(
            2 * draw(st.integers(1, 3)),
            NOW,
            buffer=draw(st.sampled_from((None, 1, 3))),
            ring_fence=draw(st.sampled_from((0, 4))),
            blocked=draw(st.booleans()),
        )
        for channel in ("web", "app")[:given]
    }


@on_fresh_skus
@given(data=st.data())
def test_what_is_bulk_written_is_what_the_ordinary_writer_writes(world: World, data):
    """For the same rows in the same portions, byte by byte; also when they come again."""
    sku = fresh_sku()
    own = data.draw(overrides())
    batches = data.draw(deliveries(data.draw(histories())))
    partition = data.draw(st.sampled_from((None, 4)))
    for number, batch in enumerate(batches):
        changes = {sku: SkuChanges(batch, own if number == 0 else {}, partition)}
        world.write(changes)
        world.load(changes)
        assert world.hashes(SHADOW, sku) == world.hashes(ORDINARY, sku)


def test_awkward_skus_are_bulk_written_alike(world: World):
    changes = {sku: SkuChanges({"wh % {1}": level(2, i)}) for i, sku in enumerate(AWKWARD_SKUS)}
    world.write(changes)
    world.load(changes)
    for sku in AWKWARD_SKUS:
        assert world.hashes(SHADOW, sku) == world.hashes(ORDINARY, sku)


@on_fresh_skus
@given(data=st.data())
def test_a_right_sku_is_taken_over_as_it_is(world: World, data):
    """Versions do not rise by a rebuild, and nobody has to be told."""
    sku = fresh_sku()
    history = data.draw(histories())
    for warehouse, changed in history:
        world.write({sku: SkuChanges({warehouse: changed}, partition=2)}, LIVE)
    before = world.hashes(LIVE, sku)
    final = {sku: SkuChanges(outcome(history), partition=2)}
    world.load(final)
    assert world.hashes(SHADOW, sku) == before
    assert sku not in world.suspects()
    assert world.mend(final)[2:] == (0, 0, 0, 0)
    assert world.hashes(LIVE, sku) == before


def falsify_row(redis, sku):
    redis.hset(stock_key(sku), "ams", "2 99 0 0 0 - 1795235627000000 0")


def falsify_number(redis, sku):
    redis.hset(availability_key(sku), "web", 999)


def falsify_projection(redis, sku):
    text = redis.hget(stock_key(sku), ":published")
    redis.hset(stock_key(sku), ":published", text.replace(b"[13,", b"[77,"))


def delete_stock(redis, sku):
    redis.delete(stock_key(sku))


def delete_readers(redis, sku):
    redis.delete(availability_key(sku))


def delete_both(redis, sku):
    redis.delete(stock_key(sku), availability_key(sku))


def other_type(redis, sku):
    redis.delete(stock_key(sku))
    redis.set(stock_key(sku), "what?")


def unreadable(redis, sku):
    redis.hset(stock_key(sku), mapping={"ams": "x y", ":revision": "many"})


FAULTS = (
    falsify_row,
    falsify_number,
    falsify_projection,
    delete_stock,
    delete_readers,
    delete_both,
    other_type,
    unreadable,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_mended(world: World, fault):
    sku, other = fresh_sku(), fresh_sku()
    rows = {"ams": level(2, 10), "nyc": level(4, 3), "lon": gone(5)}
    changes = {name: SkuChanges(rows, partition=1) for name in (sku, other)}
    world.write(changes, LIVE)
    untouched, before = world.hashes(LIVE, other), world.hashes(LIVE, sku)
    fault(world.redis[LIVE], sku)
    counts = world.mend(changes)
    assert counts.mended + counts.readers == 1
    stock, readers = world.hashes(LIVE, sku)
    assert readers[b"web"] == before[1][b"web"] == b"13"
    assert {name: stock[name] for name in (b"ams", b"nyc", b"lon")} == {
        name: before[0][name] for name in (b"ams", b"nyc", b"lon")
    }
    assert stock[b":partition"] == b"1"
    assert world.hashes(LIVE, other) == untouched
    assert world.mend(changes)[2:4] == (0, 0), "once is enough"


def test_a_live_change_wins_over_an_older_row(world: World):
    sku = fresh_sku()
    world.write({sku: SkuChanges({"ams": level(6, 4)})}, LIVE)
    before = world.hashes(LIVE, sku)
    assert world.mend({sku: SkuChanges({"ams": level(4, 10)})}).mended == 0
    assert world.hashes(LIVE, sku) == before


def test_a_change_between_look_and_write_is_not_overwritten(world: World):
    sku = fresh_sku()
    changes = {sku: SkuChanges({"ams": level(2, 10)})}
    world.write(changes, LIVE)
    falsify_number(world.redis[LIVE], sku)
    space = Space(world.redis[LIVE])
    (kept,) = space.read([sku], readers=True)
    wanted, _ = wanted_of(sku, kept, changes[sku], POLICIES)
    assert not is_right(wanted, kept)
    world.write({sku: SkuChanges({"ams": level(4, 9)})}, LIVE)
    now = world.hashes(LIVE, sku)
    assert space.replace([(sku, wanted, kept.stock)]) == [sku]
    assert world.hashes(LIVE, sku) == now


def test_the_shadow_takes_versions_and_alerts_over(world: World):
    """A SKU that was wrong gets a higher version; one whose alert was raised keeps that."""
    sku = fresh_sku()
    world.write({sku: SkuChanges({"ams": level(2, 10)})}, LIVE)
    world.write({sku: SkuChanges({"ams": level(4, 0)})}, LIVE)
    redis = world.redis[LIVE]
    redis.hset(stock_key(sku), ":alerted", NOW + 1)
    world.load({sku: SkuChanges({"ams": level(4, 7)})})
    stock, readers = world.hashes(SHADOW, sku)
    assert stock[b":alerted"] == b"%d" % (NOW + 1)
    assert int(readers[b"web:version"]) == NOW + 2
    assert world.suspects() == {sku}
    world.write({sku: SkuChanges({"ams": level(6, 7)})}, LIVE)
    world.load({sku: SkuChanges({"ams": level(6, 7)})})
    assert world.hashes(SHADOW, sku) == world.hashes(LIVE, sku)
    assert world.suspects() == set()


def test_a_check_finds_what_differs_from_postgres(world: World):
    skus = [fresh_sku() for _ in range(6)]
    right, low, missing, ghost, number, commit = skus
    rows: dict[str, dict[str, StockLevel]] = {sku: {"ams": level(4, 10)} for sku in skus}
    world.write({sku: SkuChanges(each) for sku, each in rows.items()}, LIVE)
    redis = world.redis[LIVE]
    redis.delete(stock_key(missing))
    redis.hset(stock_key(ghost), "nyc", "2 5 0 0 0 - 1795235627000000 0")
    falsify_number(redis, number)
    rows[low] = {"ams": level(6, 9)}
    rows[commit] = {"ams": level(4, 10, committed_us=NOW - 7)}
    check = Check(redis, POLICIES)
    changes = {sku: SkuChanges(each) for sku, each in rows.items()}
    assert check.differing(changes) == [low, missing, ghost, number]
    assert check.listed([right, missing, "never there"]) == [right, missing]


def loads_between(world: World, theirs, ours):
    """Load `ours`, while another process loads `theirs` between the look and the write."""
    shadow = world.redis[SHADOW]
    shadow.hset(REBUILD_KEY, "owner", OWNER)
    load = Load(world.redis[LIVE], shadow, POLICIES, OWNER)
    write, meanwhile = load._shadow.load, [theirs]

    def late(loaded, fence):
        looked = list(loaded)
        if meanwhile:
            world.load(meanwhile.pop())
        return write(looked, fence)

    load._shadow.load = late
    return load.take(Portion(ours, {}, len(ours)))


@pytest.mark.parametrize("before", [{}, {"lon": level(2, 1)}])
def test_two_processes_that_load_one_sku_at_once_lose_nothing(world: World, before):
    """One from its overrides and one from its stock, whose live numbers are others."""
    sku = fresh_sku()
    world.write({sku: SkuChanges({"ams": level(2, 99)})}, LIVE)
    own = {"web": ChannelOverride(2, NOW, blocked=True)}
    rows = {"ams": level(4, 10), "nyc": level(4, 5)}
    if before:
        world.load({sku: SkuChanges(before)})
    loads_between(world, {sku: SkuChanges({}, own)}, {sku: SkuChanges(rows, partition=1)})
    stock, readers = world.hashes(SHADOW, sku)
    assert {b"ams", b"nyc", b":override:web"} <= stock.keys()
    rows_there = {sku: SkuChanges({**before, **rows}, own)}
    assert Check(world.redis[SHADOW], POLICIES).differing(rows_there) == []
    assert readers[b"web"] == b"0"


class Swap:
    """A live space and a shadow with a SKU each, ready to be switched."""

    def __init__(self, world: World):
        self.live, self.shadow = world.redis[LIVE], world.redis[SHADOW]
        self.spaces = ShadowSpace(world.url)
        self.session = Session(OWNER, run_id_of(self.live))
        self.live.hset("availability:{SKU}", "web", "live")
        self.shadow.hset("availability:{SKU}", "web", "shadow")
        self.live.hset(CHECKPOINT_KEY, mapping={"stock/0": 5, ":version": 12, ":begun": 1})
        self.live.hset(MARKS_KEY, "0", b'{"web":"abc"}')
        self.live.set("stockwire:other", "kept")
        self.live.set(b"somebody's \xff", "kept, too", px=60_000)
        self.live.set(LOCK_KEY, OWNER, px=60_000)
        progress = Progress(self.shadow, self.session)
        facts = {"policies": "these", "mode": "shadow"}
        progress.begin(Plan(PARTS, dict.fromkeys(PARTS, "0"), facts))
        progress.note({"stock/0": "5"})
        for part in PARTS:
            progress.note({}, done=part)
        progress.note({}, audited="1")

    def switch(
        self, offset="5", marks=b'{"web":"abc"}', partition=0, session=None, keep=False, keys=None
    ):
        return self.spaces.switch(
            session or self.session,
            self.spaces.kept_keys() if keys is None else keys,
            {partition: marks},
            {"stock/0": offset, "stock/1": "0"},
            keep=keep,
        )

    def assert_live_is_served(self):
        assert self.live.hget("availability:{SKU}", "web") == b"live"
        assert not self.live.exists(REBUILD_KEY)


@pytest.fixture
def swap(world: World):
    swap = Swap(world)
    yield swap
    swap.spaces.close()


def test_readers_are_switched_and_what_is_beside_the_skus_stays(swap: Swap):
    assert swap.switch() is Switched.DONE
    assert swap.live.hget("availability:{SKU}", "web") == b"shadow"
    assert swap.live.hgetall(CHECKPOINT_KEY) == {
        b"stock/0": b"5",
        b":version": b"12",
        b":begun": b"1",
    }
    assert swap.live.hgetall(MARKS_KEY) == {b"0": b'{"web":"abc"}'}
    assert swap.live.get("stockwire:other") == b"kept"
    assert swap.live.get(b"somebody's \xff") == b"kept, too"
    assert swap.live.pttl(b"somebody's \xff") > 0
    assert swap.live.pttl(LOCK_KEY) > 0
    assert swap.shadow.hget("availability:{SKU}", "web") == b"live"


def test_what_a_worker_writes_between_look_and_switch_stays(swap: Swap):
    keys = swap.spaces.kept_keys()
    swap.live.hset(REFUSALS_KEY, "worker|topic", "{}")
    assert swap.switch(keys=keys) is Switched.DONE
    assert swap.live.hgetall(REFUSALS_KEY) == {b"worker|topic": b"{}"}


def test_a_switch_whose_reply_was_lost_is_done(swap: Swap):
    assert swap.switch() is Switched.DONE
    assert swap.switch() is Switched.DONE
    assert swap.live.hget("availability:{SKU}", "web") == b"shadow"


def test_what_differs_for_long_is_loaded_again_and_then_switched_to(swap: Swap, world, monkeypatch):
    monkeypatch.setattr(follow, "_SETTLED", 0.0)
    sku = fresh_sku()
    whole = {sku: SkuChanges({"ams": level(4, 10), "nyc": level(4, 5)})}
    world.write(whole, LIVE)
    load = Load(swap.live, swap.shadow, POLICIES, OWNER)
    load.take(Portion({sku: SkuChanges({"ams": level(4, 10)})}, {}, 1))
    swap.shadow.sadd(DIFFERING_KEY, sku)
    follower = SimpleNamespace(step=lambda: 0, positions={"stock/0": "5", "stock/1": "0"})
    policies = SimpleNamespace(all=POLICIES, digests={"web": "abc"})
    attempt = partial(swap.spaces.switch, swap.session, keep=False)
    switch = follow.Switch(swap.spaces, follower, policies, "", load, attempt)
    rows = SimpleNamespace(of=lambda skus: {sku: whole[sku] for sku in skus})
    before = world.hashes(LIVE, sku)
    assert "not as Postgres says" in switch._attempt(rows)
    swap.assert_live_is_served()
    assert switch._attempt(rows) is None
    assert swap.live.hget("availability:{SKU}", "web") == b"shadow"
    assert world.hashes(LIVE, sku) == before


def workers_go_on(swap: Swap):
    swap.live.hset(CHECKPOINT_KEY, "stock/0", 6)


def audit_finds_one(swap: Swap):
    swap.shadow.sadd(DIFFERING_KEY, "SKU")


@pytest.mark.parametrize(
    ("meanwhile", "attempt", "expected"),
    [
        (workers_go_on, {}, Switched.BEHIND),
        (audit_finds_one, {}, Switched.DIFFERING),
        (None, {"marks": b'{"web":"other"}'}, Switched.MARKS),
        (None, {"partition": 1}, Switched.MARKS),
    ],
)
def test_readers_are_not_switched_unless_the_shadow_has_all(
    swap: Swap, meanwhile, attempt, expected
):
    if meanwhile is not None:
        meanwhile(swap)
    assert swap.switch(**attempt) is expected
    swap.assert_live_is_served()


def loses_a_position(swap: Swap):
    """A failover to a replica that lacks the end of what was written."""
    swap.shadow.hset(REBUILD_KEY, "at:stock/0", 3)
    swap.live.hset(CHECKPOINT_KEY, "stock/0", 3)


def loses_a_part(swap: Swap):
    swap.shadow.hdel(REBUILD_KEY, "done:stock/1")


def loses_the_audit(swap: Swap):
    swap.shadow.hdel(REBUILD_KEY, "audited")


def loses_all(swap: Swap):
    swap.shadow.flushdb()


def is_another_run_s(swap: Swap):
    swap.shadow.hset(REBUILD_KEY, "owner", "that run")


@pytest.mark.parametrize(
    "loss", [loses_a_position, loses_a_part, loses_the_audit, loses_all, is_another_run_s]
)
def test_readers_are_not_switched_to_a_shadow_that_does_not_say_it_has_all(swap: Swap, loss):
    loss(swap)
    with pytest.raises(RebuildError, match="does not have all that was written"):
        swap.switch()
    swap.assert_live_is_served()


def test_readers_are_not_switched_on_another_run_of_the_server(swap: Swap):
    with pytest.raises(RebuildError, match="started again or has failed over"):
        swap.switch(session=swap.session._replace(run_id="0" * 40))
    swap.assert_live_is_served()


def test_a_run_that_was_paused_for_too_long_neither_switches_nor_empties(swap: Swap):
    """Its lock expired, and another run has the shadow now."""
    swap.live.set(LOCK_KEY, "that run")
    with pytest.raises(RebuildError, match="lock of the rebuild was lost"):
        swap.switch()
    with pytest.raises(RebuildError, match="lock of the rebuild was lost"):
        swap.spaces.clear(swap.session)
    swap.assert_live_is_served()
    assert swap.shadow.hget("availability:{SKU}", "web") == b"shadow"


def test_nothing_is_loaded_to_a_shadow_that_is_another_run_s(world: World):
    changes = {fresh_sku(): SkuChanges({"ams": level(2)})}
    shadow = world.redis[SHADOW]
    load = Load(world.redis[LIVE], shadow, POLICIES, OWNER)
    for owner in (None, "that run"):
        if owner is not None:
            shadow.hset(REBUILD_KEY, "owner", owner)
        with pytest.raises(RebuildError, match="Another rebuild has taken over"):
            load.take(Portion(changes, {}, 1))
        assert shadow.dbsize() == (owner is not None)


class KilledError(Exception):
    """Takes the place of kill -9."""


class Finishing:
    """What `Shadow.finish` needs of `Steps`; it dies once when channels are to be told."""

    def __init__(self, swap: Swap, *, fingerprint="these", dies=False):
        self.live, self.session = swap.live, swap.session
        self.options = Options(shadow=True)
        self.result = Result(self.options.source, True)
        self.told = 0
        self._policies = SimpleNamespace(fingerprint=fingerprint)
        self._dies = dies

    def policies(self):
        return self._policies

    def tell(self, _policies):
        if self._dies:
            raise KilledError
        self.told += 1


@pytest.mark.parametrize("keep", [False, True])
def test_a_run_that_was_killed_after_the_switch_is_finished_by_the_next(swap: Swap, keep):
    swap.shadow.sadd(SUSPECTS_KEY, "SKU")
    assert swap.switch(keep=keep) is Switched.DONE
    with pytest.raises(KilledError):
        Shadow(Finishing(swap, dies=True), swap.spaces).finish()
    steps = Finishing(swap)
    assert Shadow(steps, swap.spaces).finish()
    assert (steps.told, steps.result.wrong, steps.result.switched) == (1, 1, True)
    assert bool(swap.shadow.dbsize()) is keep
    assert not swap.live.exists(*OWN_KEYS)
    assert not Shadow(steps, swap.spaces).finish(), "once is enough"


@pytest.mark.parametrize(("fingerprint", "told"), [("these", 0), ("those", 1)])
def test_channels_are_told_after_a_switch_if_policies_were_edited(swap: Swap, fingerprint, told):
    assert swap.switch() is Switched.DONE
    steps = Finishing(swap, fingerprint=fingerprint)
    assert Shadow(steps, swap.spaces).finish()
    assert steps.told == told


def test_readers_are_not_switched_from_a_space_that_lost_its_checkpoint(swap: Swap):
    swap.live.delete(CHECKPOINT_KEY)
    assert swap.switch() is Switched.BEHIND


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
