"""Telling channels of every SKU, on a real Redis: whatever comes between, they end up knowing."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventory.policy import ChannelKind, ChannelOverride, ChannelPolicy, rules_digest
from projections.marks import MARKS_KEY, REFUSALS_KEY
from projections.ports import SkuChanges
from projections.writer import ProjectionWriter
from stream.lane import NO_SUCH_TOPIC
from tests.integration.redis_driver import RedisDriver, redis_url
from tests.integration.sweeping_shop import PARTS, SKUS, Shop, channel, leave, partition_of
from tests.projector_contract import NOW, level
from tests.recorded import altered

pytestmark = pytest.mark.integration


@pytest.fixture
def runner():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def make(runner, stack, settings):
    shops = []
    driver = RedisDriver(runner, redis_url(settings))

    def make(*policies):
        driver.redis.flushdb()
        shops.append(Shop(runner, driver.url, *policies))
        return shops[-1]

    yield make
    for shop in shops:
        runner.run(shop.redis.aclose())
    driver.close()


@pytest.fixture
def shop(make):
    shop = make(channel("web"))
    for number, sku in enumerate(SKUS):
        shop.sell(sku, 10 * number)
    shop.finish()
    return shop


def test_an_edited_policy_is_told_of_every_sku_and_of_no_other_channel(make):
    shop = make(channel("web"), channel("app"))
    for sku in SKUS:
        shop.sell(sku, 20)
    shop.finish()
    before = len(shop.publisher.published)
    shop.table.put(channel("web", buffer=3, committed_us=NOW))
    shop.finish()
    assert shop.available("web") == dict.fromkeys(SKUS, 17)
    assert {m.topic for m in shop.publisher.published[before:]} == {"stock.web.v1"}
    assert len(shop.publisher.published) - before == len(SKUS), "once each, and no back-fill"
    assert shop.marks() == {
        part: {
            "web": rules_digest(channel("web", buffer=3)),
            "app": rules_digest(channel("app")),
        }
        for part in range(PARTS)
    }


def test_a_new_channel_begins_with_a_marked_snapshot_that_ends_in_every_partition(shop):
    before = len(shop.publisher.published)
    shop.table.put(channel("b2b", buffer=1))
    shop.sell(SKUS[3], 7)
    shop.finish()
    shop.sell(SKUS[2], 8)
    messages = [m for m in shop.publisher.published[before:] if m.topic == "stock.b2b.v1"]
    marked = [dict(m.headers).get("stockwire_snapshot") for m in messages]
    snapshot, rest = marked[: -1 - PARTS * PARTS], marked[-1 - PARTS * PARTS :]
    assert set(snapshot) == {b"true"}, "a sale meanwhile belongs to it"
    assert rest == [b"last"] * PARTS * PARTS + [None]
    assert sorted(shop.ends("b2b")) == sorted(
        (f"{part}/{PARTS}", target) for part in range(PARTS) for target in range(PARTS)
    )
    assert shop.available("b2b") == {
        sku: max(0, on_hand - 1) for sku, on_hand in shop.stock.items()
    }


def test_a_channel_that_is_gone_has_nothing_left(shop):
    gone = altered(
        "channel_delete",
        before__name="web",
        before__kind="availability",
        before__topic="stock.web.v1",
    )
    shop.table.apply(gone.value)
    shop.sell(SKUS[1], 4)
    shop.finish()
    assert shop.topic("web") == {}
    assert shop.runner.run(shop.redis.keys("availability:*")) == []
    assert shop.marks() == {part: {} for part in range(PARTS)}
    before = len(shop.publisher.published)
    shop.sell(SKUS[1], 3)
    shop.finish()
    assert len(shop.publisher.published) == before, "and is not told again"


def test_a_channel_that_is_gone_with_its_topic_has_nothing_left_either(shop):
    shop.publisher.closed.add("stock.web.v1")
    shop.publisher.reason = NO_SUCH_TOPIC
    leave(shop, "web")
    shop.sell(SKUS[1], 4)
    shop.finish()
    assert shop.marks() == {part: {} for part in range(PARTS)}
    assert shop.runner.run(shop.redis.keys("availability:*")) == []


@pytest.mark.parametrize(
    "successor",
    [
        ChannelPolicy("shop", ChannelKind.AVAILABILITY, "stock.web.v1"),
        ChannelPolicy("shop", ChannelKind.LEVEL, "stock.web.v1"),
        ChannelPolicy("web", ChannelKind.LEVEL, "stock.web.v2"),
    ],
    ids=["with the same topic", "of rows with the same topic", "by the same name of another kind"],
)
def test_a_channel_that_another_has_replaced_leaves_the_projection(make, successor):
    shop = make(channel("web"), channel("app"))
    for sku in SKUS:
        shop.sell(sku, 10)
    shop.finish()
    if successor.name != "web":
        leave(shop, "web")
    shop.table.put(successor)
    shop.finish()
    for sku in SKUS:
        names = {name.partition(b":")[0] for name in shop.readers(sku)}
        assert b"web" not in names
        assert b"app" in names


def test_what_a_topic_refuses_is_made_good_and_others_are_not_bothered(make):
    shop = make(channel("web"), channel("app"))
    for sku in SKUS:
        shop.sell(sku, 20)
    shop.finish()
    shop.publisher.closed.add("stock.web.v1")
    shop.sell(SKUS[0], 9)
    assert [part["web"] for part in shop.marks().values()].count("-") == 1
    assert shop.available("app")[SKUS[0]] == 9
    assert shop.available("web")[SKUS[0]] == 20
    shop.step(most=4)
    assert shop.runner.run(shop.redis.hkeys(REFUSALS_KEY)) == [b"worker-1|stock.web.v1"]
    shop.start()
    shop.publisher.closed.clear()
    shop.finish()
    assert shop.available("web") == shop.available("app")
    assert all(mark for part in shop.marks().values() for mark in part.values())


def test_an_edit_that_is_taken_back_is_told_all_the_same(shop):
    """Whoever was told in between must hear that it is over."""
    shop.table.put(channel("web", blocked=True, version=4))
    shop.sell(SKUS[1], 7)
    shop.table.put(channel("web", version=6))
    shop.finish()
    assert shop.available("web") == shop.stock


def test_what_was_missed_is_no_back_fill(shop):
    ends = len(shop.ends("web"))
    shop.publisher.closed.add("stock.web.v1")
    shop.sell(SKUS[0], 9)
    shop.publisher.closed.clear()
    before = len(shop.publisher.published)
    shop.finish()
    again = shop.publisher.published[before:]
    assert len(again) >= len(SKUS) / PARTS
    assert not [m for m in again if "stockwire_snapshot" in dict(m.headers)]
    assert len(shop.ends("web")) == ends


def test_a_topic_that_was_deleted_and_made_again_is_told_everything(shop):
    shop.publisher.closed.add("stock.web.v1")
    shop.publisher.reason = NO_SUCH_TOPIC
    shop.sell(SKUS[0], 9)
    shop.step(2)
    before = len(shop.publisher.published)
    shop.publisher.closed.clear()
    shop.finish()
    told = {m.key.decode() for m in shop.publisher.published[before:] if m.value is not None}
    assert told == set(SKUS), "also of the partition that sold nothing meanwhile"
    assert len(shop.ends("web")) == 2 * PARTS * PARTS


def test_a_walk_is_given_up_when_its_topic_refuses(make):
    shop = make(channel("web"))
    for sku in SKUS:
        shop.sell(sku, 5)
    shop.finish()
    shop.publisher.closed.add("stock.web.v1")
    shop.sell(SKUS[0], 9)
    scans = shop.scans()
    shop.step(3)
    assert shop.scans() <= scans + 1


def test_a_partition_that_another_worker_holds_is_left_to_it(shop):
    shop.held = {1}
    shop.table.put(channel("web", buffer=1))
    shop.finish()
    told = {sku for sku in SKUS if shop.available("web")[sku] != shop.stock[sku]}
    assert told == {sku for sku in SKUS if partition_of(sku) == 1}
    shop.held = {0, 1}
    shop.finish()
    assert shop.available("web") == {s: max(0, n - 1) for s, n in shop.stock.items()}


def test_a_ring_fence_of_one_channel_is_told_to_the_others_when_its_warehouses_change(make):
    """No rule of `web` changes, and yet its number does."""
    shop = make(channel("web"), channel("app", warehouses=("lon",)))
    shop.sell(SKUS[0], 20)
    fenced = altered(
        "channel_update", after__name="x"
    )  # the override itself comes on its own topic, see tests/e2e
    del fenced

    changes = {SKUS[0]: SkuChanges({}, {"app": ChannelOverride(2, NOW, ring_fence=5)})}
    policies = shop.runner.run(shop.told.policies({0, 1}))
    shop.runner.run(ProjectionWriter(shop.redis).write(changes, policies, {}))
    shop.finish()
    assert shop.available("web") == {SKUS[0]: 20}
    shop.table.put(channel("app", warehouses=("ams",)))
    shop.finish()
    assert shop.available("web") == {SKUS[0]: 15}


def test_what_was_restored_is_told_again_and_so_are_channels_that_are_gone(shop):
    leave(shop, "web")
    shop.table.put(channel("app"))
    shop.finish()
    before = len(shop.publisher.published)
    shop.runner.run(shop.redis.flushdb())
    shop.start()
    rows = {SKUS[1]: SkuChanges({"ams": level(2, 7)}, partition=1)}
    shop.runner.run(ProjectionWriter(shop.redis).load(rows, {}))
    shop.runner.run(shop.told.forget({1}))
    shop.finish()
    told = {(m.topic, m.key): m.value is None for m in shop.publisher.published[before:]}
    assert told["stock.app.v1", SKUS[1].encode()] is False
    assert told["stock.web.v1", SKUS[1].encode()] is True
    assert shop.available("app")[SKUS[1]] == 7
    assert shop.marks()[1] == {"app": rules_digest(channel("app"))}


def test_marks_that_redis_has_lost_are_noticed_on_looking_again(shop):
    shop.runner.run(shop.redis.delete(MARKS_KEY))
    assert not shop.sweep.ready()
    before = len(shop.publisher.published)
    shop.told.look_again()
    shop.finish()
    told = {m.key.decode() for m in shop.publisher.published[before:] if m.value is not None}
    assert told == set(SKUS)


ACTIONS = {
    "sell": lambda shop, name, n: shop.sell(SKUS[n % len(SKUS)], n),
    "edit": lambda shop, name, n: shop.table.put(channel(name, buffer=n)),
    "leave": lambda shop, name, n: leave(shop, name),
    "step": lambda shop, name, n: shop.step(n),
    "close": lambda shop, name, n: shop.publisher.closed.add(f"stock.{name}.v1"),
    "open": lambda shop, name, n: shop.publisher.closed.discard(f"stock.{name}.v1"),
    "crash": lambda shop, name, n: shop.start(),
    "rebalance": lambda shop, name, n: shop.rebalance(),
}
plans = st.lists(
    st.tuples(st.sampled_from(sorted(ACTIONS)), st.sampled_from(("web", "app")), st.integers(1, 9)),
    max_size=25,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans)
def test_whatever_happens_meanwhile_every_channel_ends_up_right(make, plan):
    shop = make(channel("web"))
    for sku in SKUS[:3]:
        shop.sell(sku, 20)
    for action, name, number in plan:
        ACTIONS[action](shop, name, number)
    shop.publisher.closed.clear()
    shop.finish()
    listed = {policy.name: policy for policy in shop.table.of_kind(ChannelKind.AVAILABILITY)}
    for name in ("web", "app"):
        policy = listed.get(name)
        stock = shop.stock if policy else {}
        assert shop.available(name) == {s: max(0, n - policy.buffer) for s, n in stock.items()}
        versions = {sku: told["version"] for sku, told in shop.topic(name).items()}
        assert all(version <= shop.projected(sku) for sku, version in versions.items())
    digests = {name: rules_digest(policy) for name, policy in listed.items()}
    assert all(marks == digests for marks in shop.marks().values())


def mark_behind(shop):
    """What a rebuild does that has mended SKUs: nobody tells the worker."""
    for partition, marks in shop.marks().items():
        text = json.dumps(dict.fromkeys(marks, "-"))
        shop.runner.run(shop.redis.hset(MARKS_KEY, str(partition), text))


@pytest.mark.parametrize("noticed", ["at the end", "by a sale", "at a refusal"])
def test_who_is_marked_as_behind_during_a_walk_is_told_by_another(make, monkeypatch, noticed):
    """The walk may have passed what was mended: its end must not pass for the other one's."""
    monkeypatch.setattr("projections.scan._COUNT", 10)
    shop = make(channel("web"), channel("app"))
    for number in range(200):
        shop.sell(f"SKU-{number}", 20)
    shop.finish()
    shop.table.put(channel("web", buffer=1))
    assert shop.step(most=3), "in the middle"
    mark_behind(shop)
    if noticed == "by a sale":
        shop.table.put(channel("web", buffer=1))
        shop.sell(SKUS[0], 19)
    elif noticed == "at a refusal":
        shop.publisher.closed.add("stock.app.v1")
        shop.sell(SKUS[0], 19)
        shop.publisher.closed.clear()
    before = len(shop.publisher.published)
    shop.finish()
    for name in ("web", "app"):
        told = {m.key for m in shop.publisher.published[before:] if m.topic == f"stock.{name}.v1"}
        assert len(told) == 200
    assert "-" not in str(shop.marks().values())
