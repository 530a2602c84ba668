"""The policy table: whole before stock is taken, and never worse than it was."""

import pytest

from inventory.errors import InvalidEvent
from inventory.policy import ChannelKind, ChannelPolicy
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
    gone = altered("channel_delete", before__name="web", before__version=14).value
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


def test_an_older_version_changes_nothing():
    table = PolicyTable()
    for version, buffer in ((10, 1), (14, 3), (12, 2)):
        changed = {"after__name": "web", "after__buffer": buffer, "after__version": version}
        table.apply(altered("channel_update", **changed).value)
    (web,) = table.of_kind(ChannelKind.AVAILABILITY)
    assert (web.buffer, web.version) == (3, 14)
    table.apply(altered("channel_delete", before__name="web", before__version=12).value)
    assert table.names() == ["web"]


def test_every_change_raises_the_revision():
    table = PolicyTable()
    revisions = [table.revision]
    for name in ("channel_snapshot_last", "channel_update", "channel_delete"):
        table.apply(recorded(name).value)
        revisions.append(table.revision)
    assert sorted(set(revisions)) == revisions


def test_who_is_gone_is_remembered_until_the_name_or_the_topic_is_in_use_again():
    table = PolicyTable()
    gone = {"name": "web", "kind": "availability", "topic": "stock.web.v1"}
    table.apply(altered("channel_delete", **{f"before__{k}": v for k, v in gone.items()}).value)
    assert [p.topic for p in table.departed(ChannelKind.AVAILABILITY)] == ["stock.web.v1"]
    table.put(ChannelPolicy("shop", ChannelKind.AVAILABILITY, "stock.web.v1"))
    assert table.departed(ChannelKind.AVAILABILITY) == ()
    table.put(ChannelPolicy("shop", ChannelKind.AVAILABILITY, "stock.shop.v1"))
    assert [p.name for p in table.departed(ChannelKind.AVAILABILITY)] == ["web"]
    table.put(ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v2"))
    assert table.departed(ChannelKind.AVAILABILITY) == ()
