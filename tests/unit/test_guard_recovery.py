"""What a recovery tells of rows that are gone, and how it learns what was told."""

import orjson

from connectors.envelope import read_stock_change
from connectors.policy_envelope import read_override_change, read_policy_change
from guard.facts_connect import stored_position
from guard.ghosts import condition, deletion
from guard.versions import version_of
from inventory.stock import Operation
from tests.recorded import recorded


def value(name):
    return recorded(name).value


NOW = 1_795_000_000_000_000


def test_a_missed_delete_of_stock_counts_as_the_next_version():
    told = value("stock_update")
    before = read_stock_change(told)
    gone = read_stock_change(deletion(told, NOW))
    assert gone.operation is Operation.DELETE
    assert (gone.sku, gone.warehouse) == (before.sku, before.warehouse)
    assert gone.before == before.after
    assert gone.after is None
    assert gone.committed_us == NOW
    assert version_of(deletion(told, NOW)) == version_of(told) + 1


def test_a_missed_delete_of_a_snapshot_row_is_no_snapshot_row():
    gone = orjson.loads(deletion(value("stock_snapshot"), NOW))
    assert gone["source"]["snapshot"] == "false"


def test_missed_deletes_of_policies_are_read_as_such():
    channel = read_policy_change(deletion(value("channel_update"), NOW))
    assert channel.gone
    assert channel.whole
    override = read_override_change(deletion(value("channel_sku_update"), NOW))
    assert override.override.deleted


def test_what_has_no_version_was_never_applied():
    assert version_of(value("stock_insert")) > 0
    assert version_of(b"not json") == 0
    assert version_of(b'{"after": {"sku": "A"}}') == 0
    assert version_of(b'{"before": null, "after": null}') == 0


def test_the_position_that_connect_has_stored():
    assert stored_position([]) is None
    assert stored_position([{"lsn": 5, "lsn_proc": 9}, {"other": 1}]) == 5
    assert stored_position([{"lsn": None}]) is None


def test_a_condition_names_rows_by_their_keys_whatever_these_hold():
    keys = [("A'1", "W-2"), ("A", "W%")]
    asked = condition(None, ("sku", "warehouse"), keys)
    assert asked == """("sku", "warehouse") IN (('A', 'W%'), ('A''1', 'W-2'))"""
    assert condition(None, ("name",), [("web",)]) == """("name") IN (('web'))"""
