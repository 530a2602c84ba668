"""The policy table: whole before stock is taken, and never worse than it was."""

import pytest

from inventory.availability import ChannelKind, ChannelPolicy
from inventory.errors import InvalidEvent
from stream.policy import PolicyTable
from tests.recorded import altered, recorded


def test_it_is_whole_only_at_the_end_of_the_snapshot():
    table = PolicyTable()
    for name, whole in (
        ("channel_snapshot_first", False),
        ("channel_snapshot", False),
        ("channel_snapshot_last", True),
        ("channel_snapshot", True),
    ):
        table.apply(recorded(name).value)
        assert table.whole is whole, name


def test_a_change_replaces_and_a_delete_removes():
    table = PolicyTable()
    table.apply(altered("channel_update", after__name="web", after__buffer=3).value)
    assert [p.buffer for p in table.of_kind(ChannelKind.AVAILABILITY) if p.name == "web"] == [3]
    gone = altered("channel_delete", before__name="web").value
    table.apply(gone)
    table.apply(None)
    assert "web" not in table.names()


def test_a_policy_that_is_none_leaves_the_one_before():
    table = PolicyTable()
    table.apply(altered("channel_update", after__name="web", after__buffer=3).value)
    with pytest.raises(InvalidEvent):
        table.apply(altered("channel_update", after__name="web", after__share="7").value)
    (web,) = table.of_kind(ChannelKind.AVAILABILITY)
    assert web.buffer == 3


def test_a_channel_without_a_topic_is_left_out_until_there_is_one():
    table = PolicyTable()
    for name in ("web", "b2b"):
        table.put(ChannelPolicy(name, ChannelKind.AVAILABILITY, f"stock.{name}.v1"))
    assert table.leave_out_missing({"stock.web.v1"}) == {"b2b"}
    assert [p.name for p in table.of_kind(ChannelKind.AVAILABILITY)] == ["web"]
    assert table.leave_out_missing({"stock.web.v1", "stock.b2b.v1"}) == set()
    assert [p.name for p in table.of_kind(ChannelKind.AVAILABILITY)] == ["b2b", "web"]
