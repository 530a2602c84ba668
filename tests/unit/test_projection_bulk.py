"""What a SKU's hashes must hold, given its rows and what is kept of it."""

import dataclasses

import pytest

from inventory.policy import ChannelOverride, PolicySet
from projections.bulk import build, in_flight, raised, rows_of
from projections.codec import decode_projection, encode_level, encode_override
from projections.ports import Replaced, SkuChanges
from tests.projector_contract import NOW, POLICIES, WEB, gone, level

SKU = "SKU-1"


def rows(**levels):
    return {name.encode(): encode_level(each).encode() for name, each in levels.items()}


def first(**levels):
    """A SKU as it is when nothing is kept of it."""
    return build(SKU, rows(**levels), {}, POLICIES, 3)


def numbers(sku):
    """The readers' hash."""
    return dict(zip(sku.readers[::2], sku.readers[1::2], strict=True))


def test_what_is_right_stays_byte_by_byte():
    kept = {**first(ams=level(2)).stock, b":alerted": b"17"}
    again = build(SKU, rows(ams=level(2)), kept, POLICIES, 3)
    assert again.stock == kept
    assert not again.anew


@pytest.mark.parametrize(
    "falsified",
    [
        {b":published": b"[]"},
        {b":published": b"no json"},
        {b":revision": b"x"},
        {b":revision": b"7"},
        {b"ams": encode_level(level(2, 99)).encode()},
    ],
)
def test_what_is_falsified_is_computed_anew(falsified):
    right = first(ams=level(2, 10))
    kept = {**right.stock, **falsified}
    rebuilt = raised(rows_of(kept), SkuChanges({"ams": level(2, 10)}))
    mended = build(SKU, rebuilt, kept, POLICIES, 3)
    assert mended.stock[b"ams"] == right.stock[b"ams"]
    assert mended.anew or b"ams" in falsified
    assert numbers(mended)["web"] == "10"


def test_a_falsified_number_is_told_with_a_higher_version():
    right = first(ams=level(2, 10))
    last = decode_projection(SKU, right.stock[b":published"])
    web = last.channels["web"]
    assert web is not None
    wrong = right.stock[b":published"].replace(b"[10,", b"[11,", 1)
    assert decode_projection(SKU, wrong).channels["web"] != web
    mended = build(SKU, rows(ams=level(2, 10)), {**right.stock, b":published": wrong}, POLICIES, 3)
    assert mended.anew
    now = decode_projection(SKU, mended.stock[b":published"])
    assert now.version == last.version + 1
    assert now.channels["web"] == web._replace(
        version=last.version + 1, previous_available=11, previous_status=web.status
    )


def test_a_channel_too_many_or_too_few_is_wrong():
    kept = first(ams=level(2)).stock
    assert build(SKU, rows(ams=level(2)), kept, PolicySet.of([WEB]), 3).anew
    assert build(SKU, rows(ams=gone(3)), kept, POLICIES, 3).readers == []


def test_other_policies_are_projected_anew():
    kept = first(ams=level(2, 10)).stock
    other = PolicySet.of([dataclasses.replace(WEB, buffer=4)])
    assert numbers(build(SKU, rows(ams=level(2, 10)), kept, other, 3))["web"] == "6"


def test_a_status_that_would_stay_is_right():
    """The hysteresis allows for two: nothing may flap because of a rebuild."""
    low = build(SKU, rows(ams=level(4, 6)), first(ams=level(2, 5)).stock, POLICIES, 3)
    assert "low_stock" in low.readers
    again = build(SKU, rows(ams=level(4, 6)), low.stock, POLICIES, 3)
    assert not again.anew


def test_overrides_without_stock_are_kept_and_tell_nothing():
    text = {b":override:web": encode_override(ChannelOverride(2, NOW, buffer=1)).encode()}
    kept = build(SKU, text, {}, POLICIES, 3)
    assert kept.stock == {**text, b":revision": b"1", b":partition": b"3"}
    assert kept.readers == []
    assert not build(SKU, text, kept.stock, POLICIES, 3).anew


def test_the_version_decides_and_an_equal_one_is_trusted():
    stored = rows(ams=level(4, 5))
    for version, expected in ((2, 5), (4, 7), (6, 7)):
        changed = raised(stored, SkuChanges({"ams": level(version, 7)}))
        assert changed[b"ams"].split()[1] == b"%d" % expected


def test_a_row_that_differs_in_its_commit_time_alone_stays():
    """Postgres does not know it, and a row that was re-sent for a repair carries another one."""
    stored = rows(ams=level(4, 5, committed_us=NOW))
    earlier = SkuChanges({"ams": level(4, 5, committed_us=NOW - 9)})
    assert raised(stored, earlier) == stored
    other = SkuChanges({"ams": level(4, 6, committed_us=NOW - 9)})
    assert raised(stored, other)[b"ams"].split()[1] == b"6"


def test_rows_that_cannot_be_read_are_left_out():
    kept = {
        b"ams": b"x",
        b"lon": b"",
        b":override:web": b"1 2",
        b":other": b"1",
        **rows(nyc=level(2)),
    }
    assert rows_of(kept) == rows(nyc=level(2))


def test_a_sku_between_the_two_steps_of_a_write_is_in_flight():
    right = first(ams=level(2, 10)).stock
    assert not in_flight(right, rows(ams=level(2, 10)))
    applied = {**right, **rows(ams=level(4, 9)), b":revision": b"3"}
    assert in_flight(applied, rows(ams=level(4, 9)))
    assert in_flight(right, rows(ams=level(4, 9))), "the source is ahead"
    assert not in_flight(right, rows(ams=level(2, 9))), "the same version says something else"
    assert not in_flight({}, rows(ams=level(2, 9)))


def test_a_version_that_the_auditor_calls_false_gives_way_to_a_lower_one():
    own = ChannelOverride(6, NOW, ring_fence=2)
    stored = rows(ams=level(9_000, 99), nyc=level(9_000, 98))
    stored[b":override:web"] = encode_override(own._replace(version=9_000)).encode()
    right = SkuChanges(
        {"ams": level(8, 1), "nyc": level(8, 1)},
        {"web": own},
        replaced=Replaced({"ams": 9_000, "nyc": 8_999}, {"web": 9_000}),
    )
    assert raised(stored, right) == {
        **rows(ams=level(8, 1), nyc=level(9_000, 98)),
        b":override:web": encode_override(own).encode(),
    }
