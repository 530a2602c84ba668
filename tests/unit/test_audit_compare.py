"""No drift where the pipeline did its work, and every way not to do it is seen."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.compare import (
    ProjectionSnapshot,
    StockSnapshot,
    TopicSnapshot,
    compare,
    is_rejected,
)
from audit.report import MAX_EXAMPLES, Key
from inventory.policy import ChannelOverride
from inventory.stock import StockLevel
from tests.audit_world import POLICIES, World, world
from tests.histories import Change, histories


@pytest.fixture
def sound() -> World:
    level = StockLevel(20, 2, 1, 5, 1_795_300_000_000, 2, 1_795_235_627_000_000)
    return world(
        [("ams", level), ("lon", level._replace(version=4)), ("nyc", level._replace(version=6))]
    )


S, AMS, NYC = Key("S"), Key("S", "ams"), Key("S", "nyc")


@given(histories())
def test_there_is_no_drift_after_any_history(history: list[Change]):
    assert world(history).drift() == {}


def test_what_is_counted(sound: World):
    report = sound.report()
    assert (report.rows, report.skus, report.drift) == (3, 1, 0)
    assert report.verdict == "drift: 0 of 3"
    assert {place.place: place.compared for place in report.places} == {
        "redis stock": 3,
        "redis overrides": 0,
        "redis app": 1,
        "topic stock.app.v1": 1,
        "topic stock.erp.v1": 3,
        "redis web": 1,
        "topic stock.web.v1": 1,
        "topic stock.wms.v1": 2,
    }


def test_what_readers_find_of_a_channel_that_is_gone(sound: World):
    left = {"shop": {S: {"shop": "9"}}}
    found = replace(sound, projection=replace(sound.projection, strays=left))
    assert found.drift() == {"redis shop": 1}
    (example,) = found.report().examples()
    assert (example.expected, example.found) == (None, {"shop": "9"})


@pytest.mark.parametrize(
    "field", ["on_hand", "reserved", "safety_stock", "incoming", "incoming_at", "version"]
)
def test_a_row_in_redis_that_differs(sound: World, field: str):
    assert sound.with_row(AMS, **{field: 99}).drift() == {"redis stock": 1}


def test_a_difference_shows_only_what_differs(sound: World):
    (example,) = sound.with_row(AMS, on_hand=99).report().examples()
    assert example == ("redis stock", "S", "ams", {"on_hand": 20}, {"on_hand": 99})


@pytest.mark.parametrize(("field", "value"), [("available", 99), ("status", "backorder")])
def test_availability_in_redis_that_differs(sound: World, field: str, value: object):
    assert sound.with_told("web", S, **{field: value}).drift() == {"redis web": 1}


def test_the_clock_in_redis_must_be_that_of_the_topic(sound: World):
    assert sound.with_told("web", S, version=1).drift() == {"topic stock.web.v1": 1}


@pytest.mark.parametrize(("behind", "drifts"), [(1_000_000, False), (1_000_001, True)])
def test_a_clock_that_started_again_after_a_loss_may_be_a_little_behind(
    sound: World, behind: int, drifts: bool
):
    told = sound.projection.channels["web"][S]["version"]
    assert isinstance(told, int)
    drift = {"topic stock.web.v1": 1} if drifts else {}
    assert sound.with_told("web", S, version=told - behind).drift() == drift


def test_what_is_missing_in_redis_is_not_held_against_the_topic(sound: World):
    projection = replace(sound.projection, channels={"app": sound.projection.channels["app"]})
    assert replace(sound, projection=projection).drift() == {"redis web": 1}


@pytest.mark.parametrize("field", ["available", "status", "restock_at", "version"])
def test_an_availability_message_that_differs(sound: World, field: str):
    drift = sound.with_message("stock.app.v1", S, **{field: None}).drift()
    assert drift == {"topic stock.app.v1": 1}


@pytest.mark.parametrize(
    "field", ["on_hand", "reserved", "available", "safety_stock", "incoming", "version"]
)
def test_a_level_message_that_differs(sound: World, field: str):
    drift = sound.with_message("stock.wms.v1", AMS, **{field: 99}).drift()
    assert drift == {"topic stock.wms.v1": 1}


@pytest.mark.parametrize("field", ["on_hand", "reserved", "version", "sum_on_hand", "sum_reserved"])
def test_a_ledger_that_differs(sound: World, field: str):
    drift = sound.with_message("stock.erp.v1", NYC, **{field: 99}).drift()
    assert drift == {"topic stock.erp.v1": 1}


@pytest.mark.parametrize(
    ("topic", "key"),
    [("stock.web.v1", S), ("stock.app.v1", S), ("stock.wms.v1", AMS), ("stock.erp.v1", NYC)],
)
def test_a_missing_message(sound: World, topic: str, key: Key):
    broken = sound.without_message(topic, key)
    assert broken.drift() == {f"topic {topic}": 1}
    assert broken.report().examples()[0].found is None


def test_ghosts_everywhere(sound: World):
    ghost = Key("GHOST", "ams")
    assert sound.with_row(ghost, on_hand=1).drift() == {"redis stock": 1}
    assert sound.with_told("web", Key("GHOST"), available=1).drift() == {"redis web": 1}
    for topic in sound.topics:
        drift = sound.with_message(topic, ghost, on_hand=1).drift()
        assert drift == {f"topic {topic}": 1}
    report = sound.with_row(ghost, on_hand=1).report()
    assert report.examples() == [("redis stock", "GHOST", "ams", None, {"on_hand": 1})]
    assert report.places[0].compared == 4


def test_a_warehouse_that_a_channel_does_not_sell_from_is_a_ghost_there(sound: World):
    assert sound.with_message("stock.wms.v1", NYC, on_hand=20).drift() == {"topic stock.wms.v1": 1}


def test_what_cannot_be_read_is_shown_as_such(sound: World):
    unreadable = {"unreadable": "why"}
    channels = {**sound.projection.channels, "web": {S: unreadable}}
    broken = replace(sound, projection=replace(sound.projection, channels=channels)).report()
    assert broken.examples()[0].found == unreadable


def test_a_ledger_forgets_after_its_retention(sound: World):
    changed = 1_795_235_627_000_000
    expired = sound.without_message("stock.erp.v1", NYC, kept_since_us=changed + 1)
    assert expired.drift() == {}
    (place,) = (p for p in expired.report().places if p.place == "topic stock.erp.v1")
    assert (place.compared, place.expired) == (2, 1)
    lost = sound.without_message("stock.erp.v1", NYC, kept_since_us=changed)
    assert lost.drift() == {"topic stock.erp.v1": 1}


def test_examples_come_from_every_place_that_drifts():
    levels = {f"S{n}": {"ams": StockLevel(1, 0, 0, 0, None, 2, 0)} for n in range(50)}
    overrides = {sku: {"web": ChannelOverride(2, 0)} for sku in levels}
    empty = {policy.topic: TopicSnapshot() for policy in POLICIES}
    stock = StockSnapshot(levels, POLICIES, 0, overrides)
    report = compare(stock, ProjectionSnapshot({}, {}), empty)
    assert report.drift == 50 * 8
    assert len(report.examples()) == MAX_EXAMPLES
    assert {example.place for example in report.examples()} == {p.place for p in report.places}


@given(st.text(max_size=210), st.text(max_size=70))
def test_only_names_that_the_pipeline_refuses_are_left_out(sku: str, warehouse: str):
    kept = 1 <= len(sku) <= 200 and 1 <= len(warehouse) <= 64
    kept = kept and warehouse[0] != ":" and "|" not in warehouse
    assert is_rejected(sku, warehouse) is not kept
