"""Debezium's events, recorded from a real connector, as stock changes and policies."""

import json

import pytest

from connectors.envelope import read_stock_change
from connectors.policy_envelope import read_policy_change
from inventory.errors import InvalidEvent
from inventory.policy import ChannelKind
from inventory.stock import Operation
from tests.recorded import altered, recorded


def test_an_update_carries_both_rows_and_the_commit_time():
    change = read_stock_change(recorded("stock_update").value)
    assert change.operation is Operation.UPDATE
    assert (change.sku, change.warehouse) == ("SKU-1", "WH-1")
    assert (change.before.reserved, change.after.reserved) == (0, 1)
    assert change.after.incoming_at == 1798095600500
    assert change.version == change.after.version == 10
    assert change.committed_us == 1795241964255483
    assert change.lsn == 34996872


def test_a_delete_counts_as_the_last_version_plus_one():
    change = read_stock_change(recorded("stock_delete").value)
    assert change.operation is Operation.DELETE
    assert change.after is None
    assert change.version == change.before.version + 1 == 7


def test_a_primary_key_change_is_a_delete_and_an_insert():
    gone = read_stock_change(recorded("stock_key_change_delete").value)
    new = read_stock_change(recorded("stock_key_change_insert").value)
    assert (gone.operation, new.operation) == (Operation.DELETE, Operation.CREATE)
    assert gone.sku != new.sku
    assert new.version > gone.version


@pytest.mark.parametrize("name", ["stock_snapshot", "stock_incremental_snapshot"])
def test_a_snapshot_row_is_a_state(name):
    change = read_stock_change(recorded(name).value)
    assert change.operation is Operation.READ
    assert change.before is None


def test_an_incremental_snapshot_row_has_its_own_version_and_no_lsn():
    change = read_stock_change(recorded("stock_incremental_snapshot").value)
    assert change.lsn is None
    assert change.version == 10


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"after__on_hand": None}, "after.on_hand"),
        ({"after__on_hand": "12"}, "after.on_hand"),
        ({"after__on_hand": -1}, "after.on_hand"),
        ({"after__version": 2**60}, "after.version"),
        ({"after__sku": ""}, "sku has 0 characters"),
        ({"after__sku": "x" * 201}, "sku has 201 characters"),
        ({"after__warehouse": ":revision"}, "warehouse"),
        ({"op": "t"}, "op"),
        ({"op": "d"}, "without the row"),
        ({"after": None, "before": None}, "without the row"),
        ({"source": None}, "source"),
    ],
)
def test_what_cannot_be_applied_says_which_field_and_why(changes, complaint):
    with pytest.raises(InvalidEvent, match=complaint):
        read_stock_change(altered("stock_update", **changes).value)


@pytest.mark.parametrize("value", [b"", b"not json", b"[]", b"null", b"\xff\xfe"])
def test_what_is_no_event_at_all_is_refused(value):
    with pytest.raises(InvalidEvent):
        read_stock_change(value)


def test_a_column_that_is_new_is_no_reason_to_stop():
    assert read_stock_change(altered("stock_update", after__colour="red").value).version == 10


def test_a_dropped_column_is_named():
    event = json.loads(recorded("stock_update").value)
    del event["after"]["reserved"]
    with pytest.raises(InvalidEvent, match=r"after\.reserved: Field required"):
        read_stock_change(json.dumps(event).encode())


def test_a_policy_is_read_exactly():
    change = read_policy_change(recorded("channel_snapshot_last").value)
    policy = change.policy
    assert (policy.name, policy.kind) == ("app", ChannelKind.AVAILABILITY)
    assert policy.warehouses == ("WH-1", "WH-2")
    assert (policy.buffer, policy.share) == (2, 7500)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("channel_snapshot_first", False),
        ("channel_snapshot", False),
        ("channel_snapshot_last", True),
        ("channel_update", True),
        ("channel_delete", True),
    ],
)
def test_the_end_of_the_initial_snapshot_is_seen(name, whole):
    assert read_policy_change(recorded(name).value).whole is whole


def test_a_deleted_channel_says_what_it_was():
    change = read_policy_change(recorded("channel_delete").value)
    assert change.gone
    assert change.version == change.policy.version + 1
    assert change.policy.topic


def test_a_share_that_is_none_is_refused():
    with pytest.raises(InvalidEvent, match="share"):
        read_policy_change(altered("channel_snapshot_last", after__share="1.5").value)
