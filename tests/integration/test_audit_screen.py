"""`audit.lua` on a real Redis: it passes only what is exactly as it must be."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from audit.compare import StockSnapshot, TopicSnapshot, compare
from audit.continuous.redis_side import RedisSide, sku_of, tail_of
from audit.continuous.screen import asked
from audit.projection import read_projection
from audit.report import Key
from inventory.names import stock_key
from inventory.policy import ChannelKind, ChannelOverride, ChannelPolicy, PolicySet
from inventory.projection import SkuState, project
from inventory.settings import Settings
from inventory.stock import StockLevel
from projections.codec import (
    availability_fields,
    encode_level,
    encode_override,
    encode_projection,
)
from stockwire_client.names import availability_key

pytestmark = pytest.mark.integration

POLICIES = (
    ChannelPolicy("app", ChannelKind.AVAILABILITY, "a", ("W1",)),
    ChannelPolicy("web", ChannelKind.AVAILABILITY, "w", backorder_limit=3, max_per_order=2),
)
CHANNELS = ["app", "web"]
SKU = f"SCREEN {{{uuid4().hex[:8]}}}%7B"
AT = 1_795_235_627_000_000


@pytest.fixture(scope="module")
def side(stack: object, settings: Settings) -> Iterator[RedisSide]:
    with redis.Redis.from_url(str(settings.redis_url)) as client:
        yield RedisSide(client)
        client.delete(stock_key(SKU), availability_key(SKU))


_levels = st.dictionaries(
    st.sampled_from(["W1", "W2", "Wörth 3"]),
    st.builds(
        StockLevel,
        st.integers(0, 30),
        st.integers(0, 9),
        st.integers(-2, 3),
        st.integers(0, 2),
        st.sampled_from([None, 0, 1_795_300_000_000]),
        st.integers(1, 500).map(lambda n: n * 2),
        st.just(AT),
        st.booleans(),
    ),
    min_size=1,
)
_overrides = st.dictionaries(
    st.sampled_from(CHANNELS),
    st.builds(
        ChannelOverride,
        st.integers(1, 500),
        st.just(AT),
        st.sampled_from([None, 0, 4]),
        st.sampled_from([None, 10_000]),
        *[st.none() | st.integers(0, 9)] * 4,
        ring_fence=st.integers(0, 3),
        blocked=st.booleans(),
        deleted=st.booleans(),
    ),
)


def write(side: RedisSide, levels, overrides) -> StockSnapshot:
    """As the worker does; what Postgres must have for it."""
    state = SkuState(SKU, 1, levels, None, overrides)
    projection = project(state, PolicySet.of(POLICIES))
    stock = {code.encode(): encode_level(level) for code, level in levels.items()}
    stock |= {f":override:{n}".encode(): encode_override(o) for n, o in overrides.items()}
    stock |= {b":revision": "2", b":published": encode_projection(projection), b":partition": "3"}
    fields = availability_fields(projection)
    side.redis.delete(stock_key(SKU), availability_key(SKU))
    side.redis.hset(stock_key(SKU), mapping=stock)
    if fields:
        side.redis.hset(availability_key(SKU), items=fields)
    live = {code: level for code, level in levels.items() if not level.deleted}
    own = {name: row for name, row in overrides.items() if not row.deleted}
    return StockSnapshot({SKU: live} if live else {}, POLICIES, 0, {SKU: own})


def drifts(side: RedisSide, stock: StockSnapshot, *others: str) -> bool:
    """What the exact comparison says of the working state, or of other places."""
    places = others or ("redis stock", "redis overrides")
    projection = read_projection(side.redis, CHANNELS, [SKU])
    report = compare(stock, projection, {policy.topic: _NOTHING for policy in POLICIES})
    return any(p.drift for p in report.places if p.place in places)


_NOTHING = TopicSnapshot()


@examples(max_examples=150)
@given(_levels, _overrides)
def test_what_a_worker_writes_is_the_same(side: RedisSide, levels, overrides):
    stock = write(side, levels, overrides)
    (seen,) = side.seen([SKU], asked(stock, [SKU]), CHANNELS)
    assert seen.same
    told = read_projection(side.redis, CHANNELS, [SKU]).channels
    for text, name in zip(seen.shown, CHANNELS, strict=True):
        fields = next(iter(told[name].values()), None)
        names = ("available", "status", "backorderable", "order_limit", "version")
        assert text == ("" if fields is None else " ".join(str(fields[n]) for n in names))


_garbage = st.sampled_from(
    [
        "", "garbage", "8 1 0 0 0 - 5 0", "8 1 0 0 0 - 5 1", "8 1 0 0 0 - - 1", "x 1 0 0 0 - 5 1",
        "8 1 0 0 0 5 1", "9 5 - - - - - - 0 0 0", "9 5 - - - - - - 0 0 1", "9 5 - - x - - - 0 0 1",
    ]
)  # fmt: skip


@examples(max_examples=300)
@given(_levels, _overrides, st.data())
def test_nothing_passes_that_is_drift(side: RedisSide, levels, overrides, data):
    stock = write(side, levels, overrides)
    fields = [*side.redis.hkeys(stock_key(SKU)), b"W9", b":override:gone", b":odd"]
    field = data.draw(st.sampled_from(fields))
    if data.draw(st.booleans()):
        side.redis.hset(stock_key(SKU), field, data.draw(_garbage))
    else:
        side.redis.hdel(stock_key(SKU), field)
    (seen,) = side.seen([SKU], asked(stock, [SKU]), CHANNELS)
    if drifts(side, stock):
        assert not seen.same


@pytest.mark.parametrize(
    ("field", "value"),
    [("web", "x"), ("web:status", "so so"), ("web:version", "?"), ("as_of", "-")],
)
def test_what_readers_cannot_read_is_not_what_they_must_see(side: RedisSide, field, value):
    stock = write(side, {"W1": StockLevel(9, 0, 0, 0, None, 2, AT)}, {})
    (sound,) = side.seen([SKU], asked(stock, [SKU]), CHANNELS)
    side.redis.hset(availability_key(SKU), field, value)
    (seen,) = side.seen([SKU], asked(stock, [SKU]), CHANNELS)
    assert seen.shown[1] != sound.shown[1]


@pytest.mark.parametrize(
    ("field", "place"),
    [("shop", "redis shop"), ("shop:status", "redis shop"), ("web:odd", "redis web:odd")],
)
def test_fields_that_are_no_channels_are_seen(side: RedisSide, field: str, place: str):
    stock = write(side, {"W1": StockLevel(9, 0, 0, 0, None, 2, AT)}, {})
    assert side.seen([SKU], asked(stock, [SKU]), CHANNELS)[0].same
    side.redis.hset(availability_key(SKU), field, "7")
    assert not side.seen([SKU], asked(stock, [SKU]), CHANNELS)[0].same
    left = read_projection(side.redis, CHANNELS, [SKU]).strays
    assert left == {place.removeprefix("redis "): {Key(SKU): {field: "7"}}}
    assert drifts(side, stock, place)


def test_readers_of_a_sku_that_nobody_has_any_more_find_a_channel_that_is_gone(side: RedisSide):
    side.redis.delete(stock_key(SKU), availability_key(SKU))
    side.redis.hset(availability_key(SKU), mapping={"shop": 7, "as_of": 1})
    (seen,) = side.seen([SKU], [[""]], CHANNELS)
    assert not seen.same


def test_a_key_of_another_type_and_one_that_is_gone(side: RedisSide):
    stock = write(side, {"W1": StockLevel(9, 0, 0, 0, None, 2, AT)}, {})
    side.redis.delete(stock_key(SKU), availability_key(SKU))
    (gone,) = side.seen([SKU], asked(stock, [SKU]), CHANNELS)
    assert (gone.same, gone.shown) == (False, ["", ""])
    side.redis.set(stock_key(SKU), "x")
    side.redis.set(availability_key(SKU), "x")
    (odd,) = side.seen([SKU], asked(stock, [SKU]), CHANNELS)
    assert (odd.same, odd.shown) == (False, ["!", "!"])


def test_what_cannot_be_read_is_named_where_it_is(side: RedisSide):
    stock = write(side, {"W1": StockLevel(9, 0, 0, 0, None, 2, AT)}, {})
    false = "12 99999999999999999999 0 0 0 - 5 0"
    odd = {"W1": "garbage", "W9": false, ":override:web": "x", ":odd": "1", b"|": "x"}
    side.redis.hset(stock_key(SKU), mapping=odd)
    found = read_projection(side.redis, CHANNELS, [SKU])
    assert {key: fields.get("version") for key, fields in found.rows.items()} == {
        Key(SKU, "W1"): 0,
        Key(SKU, "W9"): 12,
        Key(SKU): None,
    }
    assert found.rows[Key(SKU)] == {"unreadable": ":odd, |"}
    assert found.overrides.keys() == {Key(SKU, "web")}
    assert drifts(side, stock, "redis stock")
    assert drifts(side, stock, "redis overrides")


def test_scripts_are_loaded_again_and_keys_are_found(side: RedisSide):
    write(side, {"W1": StockLevel(9, 0, 0, 0, None, 2, AT)}, {})
    side.redis.script_flush()
    assert len(side.seen([SKU] * 250, [[""]] * 250, CHANNELS)) == 250
    tails = {tail for some in side.tails() for tail in some}
    assert tail_of(SKU) in tails
    assert sku_of(tail_of(SKU)) == SKU
