"""What may become a channel, when a back-fill is complete, and how a channel stands."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.backfill import SnapshotEnds
from cli.channel_rows import check_new_channel, find_channel
from cli.channels import as_dict, standing_text
from cli.standing import (
    Refused,
    Standing,
    State,
    availability_standing,
    ledger_standing,
    read_refusals,
)
from inventory import standing as ledger
from inventory.errors import NotFound, PolicyError
from inventory.messages import IN_SNAPSHOT, snapshot_end
from inventory.policy import ChannelKind, ChannelPolicy, rules_digest
from stream.standing import terms

WEB = ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1", ("A", "B"))
WMS = ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1")
DIGEST = rules_digest(WEB)


def check(name="shop", kind=ChannelKind.AVAILABILITY, topic=None, warehouses=None):
    wanted = ChannelPolicy(name, kind, topic or f"stock.{name}.v1", warehouses)
    return check_new_channel(wanted, [WEB, WMS], ["A", "B", "C"])


def test_a_new_channel_is_to_be_made():
    assert check()
    assert check(warehouses=("C", "A"))
    assert check(topic="elsewhere")


@pytest.mark.parametrize("name", ["", "Shop", "1shop", "as_of", "a:b", "a" * 64, "shop\n"])
def test_a_name_that_cannot_be_projected_is_refused(name):
    with pytest.raises(PolicyError, match="cannot be named"):
        check(name, topic="shop")


@pytest.mark.parametrize(
    "topic", ["stockwire.inventory.stock", "stock.alerts.v1", "_x", "a b", "stockwire.dlq.v1"]
)
def test_our_own_topics_are_not_a_channels(topic):
    with pytest.raises(PolicyError, match="cannot be a channel's topic"):
        check(topic=topic)


def test_a_channel_named_alerts_would_get_the_topic_of_alerts():
    with pytest.raises(PolicyError, match="--topic"):
        check("alerts")


def test_a_topic_belongs_to_one_channel():
    with pytest.raises(PolicyError, match="that of the channel wms"):
        check(topic="stock.wms.v1")


def test_unknown_warehouses_are_refused_with_the_known_ones():
    with pytest.raises(PolicyError, match="no warehouse X, Y; the warehouses are A, B, C"):
        check(warehouses=("A", "X", "Y"))
    with pytest.raises(PolicyError, match="name each once"):
        check(warehouses=("A", "A"))


def test_the_same_channel_again_changes_nothing():
    assert not check("web", warehouses=("A", "B"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": ChannelKind.LEVEL}, "already, of kind availability"),
        ({"topic": "other"}, "remove it first"),
        ({"warehouses": ("B", "A")}, "to '{B,A}'"),
        ({"warehouses": None}, "to NULL"),
    ],
)
def test_another_channel_of_the_same_name_is_refused(changes, complaint):
    with pytest.raises(PolicyError, match=complaint):
        check(**{"name": "web", "warehouses": ("A", "B"), **changes})


def test_an_unknown_channel_is_answered_with_the_known_ones():
    assert find_channel("wms", [WEB, WMS]) is WMS
    with pytest.raises(NotFound, match="no channel 'shop'; the channels are web, wms"):
        find_channel("shop", [WEB, WMS])


@given(
    partitions=st.integers(1, 4),
    parts=st.integers(1, 4),
    messages=st.integers(0, 5),
    data=st.data(),
)
def test_a_back_fill_is_complete_with_the_last_end_and_not_before(
    partitions, parts, messages, data
):
    seen = SnapshotEnds(partitions)
    ends = [(number, part) for number in range(partitions) for part in range(parts)]
    order = data.draw(st.permutations([*ends, *[None] * messages]))
    left = set(ends)
    for each in order:
        assert not seen.complete
        if each is None:
            seen.take(0, IN_SNAPSHOT)
            seen.take(0, [("ce_id", b"live, not of the back-fill")])
        else:
            left.discard(each)
            seen.take(each[0], snapshot_end("t", each[0], each[1], parts).headers)
            if data.draw(st.booleans()):
                seen.take(each[0], snapshot_end("t", each[0], each[1], parts).headers)
        if not left:
            break
    assert seen.complete
    assert seen.parts_ended == parts


def test_a_back_fill_counts_its_messages_and_not_its_ends():
    seen = SnapshotEnds(1)
    assert seen.progress == "0 messages, 0 of ? parts"
    seen.take(0, IN_SNAPSHOT)
    seen.take(0, [])
    seen.take(0, snapshot_end("t", 0, 1, 2).headers)
    assert seen.progress == "1 messages, 1 of 2 parts"
    seen.take(0, [("stockwire_snapshot", b"last"), ("stockwire_snapshot_part", b"nonsense")])
    assert not seen.complete


def standing(*marks, refusals=()):
    told = {number: {} if mark is None else {"web": mark} for number, mark in enumerate(marks)}
    return availability_standing(WEB, told, 3, refusals)


def refusal(topic="stock.web.v1", since=100.0, not_published=5):
    return Refused(topic, "there is no such topic", since, not_published)


def test_a_channel_is_live_when_every_partition_is_told_by_its_present_rules():
    assert standing(DIGEST, DIGEST, DIGEST).state is State.LIVE
    for mark in (None, "", "another digest"):
        assert standing(DIGEST, DIGEST, mark) == Standing(State.TOLD, 2, 3)
    assert standing(DIGEST, DIGEST).told == 2, "a partition without marks has not been told"


def test_a_channel_is_behind_while_its_topic_refuses():
    found = standing(DIGEST, "", "", refusals=[refusal(), refusal(since=90.0, not_published=2)])
    assert found == Standing(State.BEHIND, 1, 3, 7, 90.0, "there is no such topic")
    assert standing(DIGEST, "", "", refusals=[refusal("other")]).state is State.TOLD
    told = standing(DIGEST, DIGEST, DIGEST, refusals=[refusal()])
    assert told.state is State.LIVE, "what is left of a refusal that is over does not count"


ENDS = {0: 100, 1: 50}


def kept(state, offset=10, policy=WMS, **more):
    return ledger.Standing(state, offset, terms(policy), **more)


def test_a_ledgers_channel_is_live_when_every_partition_follows_by_its_present_terms():
    live = kept(ledger.State.LIVE)
    assert ledger_standing(WMS, {0: live, 1: live}, ENDS) == Standing(State.LIVE, 2, 2)
    other_terms = kept(ledger.State.LIVE, policy=replace(WMS, warehouses=("A",)))
    for found in (other_terms, kept(ledger.State.JOINING), kept(ledger.State.LEAVING)):
        assert ledger_standing(WMS, {0: live, 1: found}, ENDS) == Standing(State.TOLD, 1, 2, 50)
    assert ledger_standing(WMS, {0: live}, ENDS) == Standing(State.TOLD, 1, 2, 50)


def test_a_ledgers_channel_is_behind_from_its_offset_on():
    full = kept(ledger.State.BEHIND, 30, reason="full", since=90.0)
    later = kept(ledger.State.BEHIND, 50, reason="later", since=95.0)
    found = ledger_standing(WMS, {0: full, 1: later}, ENDS)
    assert found == Standing(State.BEHIND, 0, 2, 70, 90.0, "full")


def test_refusals_are_read_and_nonsense_is_passed():
    good = orjson.dumps({"reason": "full", "since": 1.5, "attempts": 2, "not_published": 3})
    fields = {b"worker-1|stock.web.v1": good, b"no bar": good, b"a|b": b"{}", b"c|d": b"nonsense"}
    assert read_refusals(fields) == [Refused("stock.web.v1", "full", 1.5, 3)]


def test_a_standing_is_a_few_words():
    assert standing_text(Standing(State.LIVE, 3, 3)) == "live"
    assert standing_text(Standing(State.TOLD, 2, 3)) == "being told 2/3"
    behind = standing_text(Standing(State.BEHIND, 1, 3, 7, 90.0, "full"))
    assert behind.startswith("behind since ")
    assert behind.endswith(": full")


def test_a_channel_is_one_line_of_json():
    found = as_dict(WEB, 4, Standing(State.BEHIND, 1, 3, 7, 90.0, "full"))
    assert orjson.loads(orjson.dumps(found)) == {
        "channel": "web",
        "kind": "availability",
        "topic": "stock.web.v1",
        "warehouses": ["A", "B"],
        "buffer": 0,
        "share": 1.0,
        "blocked": False,
        "version": 0,
        "overrides": 4,
        "state": "behind",
        "partitions_told": 1,
        "partitions": 3,
        "backlog": 7,
        "since": "1970-01-01T00:01:30.000000Z",
        "reason": "full",
    }
