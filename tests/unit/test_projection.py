"""The pure part of a projection: policies, clock, and how the state is written down."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import PolicyError
from inventory.policy import ChannelKind, ChannelOverride, ChannelPolicy, PolicySet
from inventory.projection import SkuProjection, SkuState, project
from inventory.stock import StockLevel
from projections.codec import (
    decode_level,
    decode_projection,
    decode_state,
    encode_level,
    encode_projection,
    level_version,
)
from tests.histories import histories
from tests.projector_contract import APP, POLICIES, WEB, WMS, level

quantities = st.integers(-(2**53), 2**53 - 1)
any_level = st.builds(
    StockLevel,
    on_hand=quantities,
    reserved=quantities,
    safety_stock=quantities,
    incoming=quantities,
    incoming_at=st.none() | st.integers(0, 253_402_300_799_999),
    version=st.integers(0, 2**63 - 1),
    committed_us=st.integers(0, 253_402_300_799_999_999),
    deleted=st.booleans(),
)


class TestPolicySet:
    def test_only_availability_channels_in_order_of_name(self):
        assert PolicySet.of([WEB, WMS, APP]).policies == (APP, WEB)

    def test_the_fingerprint_does_not_depend_on_the_order(self):
        assert PolicySet.of([WEB, APP]).fingerprint == PolicySet.of([WMS, APP, WEB]).fingerprint

    def test_the_fingerprint_is_the_same_in_every_process(self):
        assert PolicySet.of([WEB, APP]).fingerprint == "8830d35fbe74e41c"

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "shop"},
            {"warehouses": ("ams",)},
            {"warehouses": ()},
            {"warehouses": ("ams", "lon")},
            {"buffer": 1},
            {"share": 9_999},
            {"low_stock_threshold": 6},
            {"low_stock_hysteresis": 0},
            {"priority": 1},
            {"max_per_order": 3},
            {"backorder_limit": 1},
            {"blocked": True},
        ],
    )
    def test_every_rule_changes_the_fingerprint(self, change):
        other = dataclasses.replace(WEB, **change)
        assert PolicySet.of([other]).fingerprint != PolicySet.of([WEB]).fingerprint

    def test_a_topic_does_not(self):
        other = dataclasses.replace(WEB, topic="stock.shop.v1")
        assert PolicySet.of([other]).fingerprint == PolicySet.of([WEB]).fingerprint

    @pytest.mark.parametrize("name", ["", "web:status", "as_of"])
    def test_names_that_collide_with_other_fields_are_refused(self, name):
        with pytest.raises(PolicyError, match="cannot be projected"):
            PolicySet.of([dataclasses.replace(WEB, name=name)])

    def test_one_name_is_one_channel(self):
        with pytest.raises(PolicyError, match="there twice"):
            PolicySet.of([WEB, dataclasses.replace(WEB, buffer=1)])


class TestClock:
    @given(histories())
    def test_it_strictly_rises_and_is_never_before_the_commit(self, history):
        state = SkuState("SKU-1", 0, {}, None)
        clock = 0
        for warehouse, changed in history:
            levels = {**state.levels, warehouse: changed}
            projection = project(
                state._replace(revision=state.revision + 1, levels=levels), POLICIES
            )
            assert projection.version > clock
            assert projection.version >= projection.committed_us
            assert projection.committed_us == max(row.committed_us for row in levels.values())
            for told in projection.channels.values():
                assert told is None or told.version == projection.version
            clock = projection.version
            state = SkuState("SKU-1", projection.revision, levels, projection)

    @given(histories())
    def test_a_projection_that_is_current_is_returned_untouched(self, history):
        first = project(SkuState("SKU-1", 1, dict(history), None), POLICIES)
        state = SkuState("SKU-1", first.revision, dict(history), first)
        assert project(state, POLICIES) is first

    def test_channels_that_no_policy_names_are_forgotten(self):
        levels = {"ams": level(2)}
        both = project(SkuState("SKU-1", 1, levels, None), POLICIES)
        only_web = project(SkuState("SKU-1", 2, levels, both), PolicySet.of([WEB]))
        assert set(only_web.channels) == {"web"}


class TestCodec:
    @given(any_level)
    def test_rows(self, row):
        text = encode_level(row).encode()
        assert decode_level(text) == row
        assert level_version(text) == row.version

    def test_a_row_as_written(self):
        row = StockLevel(12, 3, 0, 50, 1_795_235_627_326, 8, 1_795_235_627_326_925)
        assert encode_level(row) == "8 12 3 0 50 1795235627326 1795235627326925 0"
        assert encode_level(StockLevel(0, 0, 0, 0, None, 9, 5, deleted=True)) == ("9 0 0 0 0 - 5 1")

    @given(histories(), st.sampled_from(("shop", "é ☃", '"')))
    def test_projections(self, history, name):
        channel = ChannelPolicy(name, ChannelKind.AVAILABILITY, "t")
        policies = PolicySet.of([channel, APP])
        first = project(SkuState("SKU-1", 1, dict(history), None), policies)
        assert decode_projection("SKU-1", encode_projection(first).encode()) == first

    def test_a_state(self):
        projection = SkuProjection("SKU-1", 3, "f", 7, 5, {"web": None})
        flat = [
            *(b":revision", b"3", "zürich".encode(), encode_level(level(2)).encode()),
            *(b":published", encode_projection(projection).encode()),
            *(
                b":override:web",
                b"6 5 - 5000 - - 2 - 10 0 0",
                b":partition",
                b"4",
                b":alerted",
                b"7",
            ),
        ]
        assert decode_state("SKU-1", flat) == SkuState(
            "SKU-1",
            3,
            {"zürich": level(2)},
            projection,
            {"web": ChannelOverride(6, 5, share=5000, max_per_order=2, ring_fence=10)},
            4,
            7,
        )
        assert decode_state("SKU-1", []) == SkuState("SKU-1", 0, {}, None)

    def test_what_cannot_be_read_promises_less_and_keeps_the_version_that_guards_it(self):
        flat = [
            *(b"ams", b"garbage", b"nyc", b"12 99999999999999999999 0 0 0 - 5 0"),
            *(b":override:web", b"14 5 -3 - - - - - 0 0 0", b":odd", b"", b"", b"", b"\xff", b"x"),
            *(b":revision", b"007", b":partition", b"-1", b":alerted", b"x", b":published", b"{}"),
        ]
        found = decode_state("SKU-1", flat)
        gone = StockLevel(0, 0, 0, 0, None, 0, 0, deleted=True)
        assert found.levels["ams"] == gone
        assert found.levels["nyc"] == gone._replace(version=12)
        assert found.overrides == {"web": ChannelOverride(14, 0, blocked=True)}
        assert (found.revision, found.partition, found.alerted, found.published) == (
            0,
            None,
            0,
            None,
        )
        assert len(found.unreadable) == len(flat) // 2
        assert project(found, POLICIES).channels == {"web": None, "app": None}
