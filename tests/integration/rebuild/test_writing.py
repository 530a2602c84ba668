"""Both hashes of many SKUs: bulk-written, mended and checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import RebuildError
from inventory.names import stock_key
from inventory.policy import ChannelOverride
from inventory.stock import StockLevel
from projections.ports import SkuChanges
from projections.space import Space
from rebuild.mend import Check, Load, is_right, wanted_of
from rebuild.portion import Portion
from rebuild.progress import (
    REBUILD_KEY,
)
from stockwire_client.names import availability_key
from tests.histories import deliveries, histories, outcome
from tests.integration.rebuild.spaces import LIVE, ORDINARY, OWNER, SHADOW, World
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
