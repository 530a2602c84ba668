"""An explanation adds up to the number it explains, and every kind of answer says so."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.account import account_for, is_up_to_date
from audit.agreement import (
    Agreement,
    LastMessage,
    Says,
    promised_fields,
    redis_says,
    topic_says,
)
from audit.explain import Explainer
from audit.explanation import Account, Answer, Explanation, is_fresh, worst
from audit.facts import CommittedRow, SkuFacts
from audit.rows import level_says, movement_says
from cli.explain import explanation_dict
from inventory.availability import promises
from inventory.messages import availability_messages
from inventory.policy import ChannelKind, ChannelOverride, ChannelPolicy, PolicySet
from inventory.projection import SkuState, project
from inventory.stock import StockRow
from projections.codec import availability_fields
from stockwire_client.contract import Status

NOW = 1_795_235_627_000_000
WEB = ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1", version=2)
APP = ChannelPolicy("app", ChannelKind.AVAILABILITY, "stock.app.v1", ("B", "A"), version=4)
WMS = ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1", version=6)
ERP = ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1", echo_of="erp-sync", version=8)


def row(on_hand, reserved=0, safety=0, version=2, at=NOW - 60_000_000, **more):
    return CommittedRow(StockRow(on_hand, reserved, safety, 0, None, version, **more), at)


def facts(rows, *policies, **overrides):
    return SkuFacts("S", NOW, rows, policies or (WEB, APP, WMS, ERP), overrides)


def override(**values):
    return ChannelOverride(10, NOW - 70_000_000, **values)


def projected(about, **published):
    """The working state after the worker has seen just these facts."""
    state = SkuState("S", 1, about.levels, None, about.overrides)
    done = project(state, about.sellers)
    return state._replace(revision=done.revision, published=done._replace(**published))


def shown(state):
    flat = iter(availability_fields(state.published))
    return dict(zip(flat, flat, strict=True))


def told(state, channel):
    (message,) = availability_messages(state.published, [(channel, f"stock.{channel}.v1")])
    return LastMessage(1, 7, message.value, state.published.committed_us)


quantities = st.integers(0, 30)
rows_of_a_sku = st.dictionaries(
    st.sampled_from("ABC"), st.builds(row, quantities, quantities, quantities), max_size=3
)
overrides_of_a_sku = st.dictionaries(
    st.sampled_from(["web", "app"]),
    st.builds(
        override,
        buffer=st.none() | quantities,
        share=st.none() | st.integers(0, 10_000),
        max_per_order=st.none() | st.integers(1, 9),
        backorder_limit=st.none() | quantities,
        ring_fence=quantities,
        blocked=st.booleans(),
    ),
)
changed = st.fixed_dictionaries(
    {
        "buffer": quantities,
        "share": st.integers(0, 10_000),
        "blocked": st.booleans(),
        "backorder_limit": quantities,
        "warehouses": st.sampled_from([None, ("A",), ("C", "B"), ("A", "B", "C")]),
    }
)


@given(rows_of_a_sku, overrides_of_a_sku, changed)
def test_the_steps_add_up_to_what_the_rules_say(rows, overrides, values):
    about = facts(rows, replace(WEB, **values), APP, **overrides)
    policy = about.policies[0]
    found = account_for(about, policy, None)
    expected = promises(about.levels, overrides, about.sellers.policies, {})["web"]
    assert found.promised == expected
    if expected is None:
        assert (found.answer, found.steps) == (Answer.NOT_LISTED, ())
        return
    assert found.steps[0].left == found.steps[0].delta
    for before, step in zip(found.steps, found.steps[1:], strict=False):
        assert step.left == before.left + step.delta
    assert found.steps[-1].left == expected.available
    assert [line.warehouse for line in found.warehouses] == list(policy.warehouses or sorted(rows))


@given(rows_of_a_sku, overrides_of_a_sku, changed)
def test_what_the_worker_made_of_it_agrees(rows, overrides, values):
    about = facts(rows, replace(WEB, **values), APP, **overrides)
    if not rows:
        return
    state = projected(about)
    assert is_up_to_date(state, about)
    for name in ("web", "app"):
        policy = next(p for p in about.policies if p.name == name)
        promised = account_for(about, policy, state).promised
        redis = redis_says(shown(state), name, promised, fresh=False)
        topic = topic_says(told(state, name), promised_fields(promised), fresh=False)
        assert (redis.agreement, topic.agreement) == (Agreement.AGREES, Agreement.AGREES)


def test_each_deduction_is_named_with_the_rule_behind_it():
    policy = replace(WEB, buffer=2, share=8_000)
    about = facts(
        {"A": row(20, 3, 1), "B": row(2, 6), "C": row(30)},
        policy,
        APP,
        app=override(ring_fence=5),
        web=override(ring_fence=4, buffer=3),
    )
    found = account_for(about, policy, None)
    assert [(step.name, step.delta, step.left) for step in found.steps] == [
        ("on hand", 52, 52),
        ("reserved", -9, 43),
        ("safety stock", -1, 42),
        ("below zero", 4, 46),
        ("ring-fenced for others", -5, 41),
        ("ring-fenced for itself", -4, 37),
        ("buffer", -3, 34),
        ("share", -7, 27),
        ("own ring-fence", 4, 31),
    ]
    sources = {step.name: step.source for step in found.steps}
    assert sources["ring-fenced for others"] == "app"
    assert sources["buffer"] == "3 by override"
    assert sources["share"] == "80% by policy, rounded down"
    assert [line.held for line in found.warehouses] == [{"app": 5, "web": 4}, {}, {}]


def answer_of(about, policy=WEB):
    found = account_for(about, policy, None)
    return found.answer, found.promised and found.promised.available, found.why_status


def test_every_answer_is_its_own():
    rows = {"A": row(20)}
    blocked = replace(WEB, blocked=True)
    assert answer_of(facts(rows))[0] is Answer.SOLD
    assert answer_of(facts(rows, blocked), blocked)[:2] == (Answer.CHANNEL_BLOCKED, 0)
    assert answer_of(facts(rows, web=override(blocked=True)))[:2] == (Answer.SKU_BLOCKED, 0)
    elsewhere = account_for(facts({"C": row(20)}), APP, None)
    assert (elsewhere.answer, elsewhere.elsewhere) == (Answer.NOT_LISTED, ("C",))
    assert account_for(facts({}), WEB, None).answer is Answer.NOT_LISTED


@pytest.mark.parametrize(
    ("available", "previous", "status", "why"),
    [
        (6, None, Status.IN_STOCK, "it was not low before"),
        (6, Status.LOW_STOCK, Status.LOW_STOCK, "must rise above 7 (hysteresis)"),
        (8, Status.LOW_STOCK, Status.IN_STOCK, "8 is above the threshold of 5."),
        (5, None, Status.LOW_STOCK, "5 is not above the threshold of 5."),
        (0, None, Status.OUT_OF_STOCK, "Nothing is left."),
    ],
)
def test_it_says_when_hysteresis_has_decided(available, previous, status, why):
    about = facts({"A": row(available)})
    state = projected(about)
    channels = {
        name: each._replace(previous_status=previous)
        for name, each in state.published.channels.items()
    }
    found = account_for(about, WEB, projected(about, channels=channels))
    assert found.promised.status is status
    assert why in found.why_status


def test_backorder_is_explained():
    policy = replace(WEB, backorder_limit=10)
    found = account_for(facts({"A": row(2, 5)}, policy), policy, None)
    assert found.promised.backorderable == 7
    assert "7 may be sold in advance" in found.why_status


def test_hysteresis_follows_the_status_told_while_redis_is_behind():
    before = facts({"A": row(4, version=2)})
    state = projected(before)
    now = facts({"A": row(6, version=4)})
    assert not is_up_to_date(state, now)
    assert account_for(now, WEB, state).promised.status is Status.LOW_STOCK


def test_the_last_change_is_the_newest_of_all_that_made_the_number():
    rows = {
        "A": row(9, version=40, at=NOW - 9, reason="order", reference="SO-1", caused_by="shop"),
        "B": row(9, version=50, at=NOW - 30),
        "C": row(9, version=60, at=NOW - 1),
    }
    about = facts(rows, WEB, APP)
    change = account_for(about, APP, None).last_change
    assert (change.what, change.version) == ("stock in A", 40)
    assert (change.reason, change.reference, change.caused_by) == ("order", "SO-1", "shop")
    edited = replace(APP, committed_us=NOW - 5)
    assert account_for(facts(rows, WEB, edited), edited, None).last_change.what == "policy of app"
    stranger = replace(WEB, committed_us=NOW - 4)
    change = account_for(facts(rows, stranger, APP), APP, None).last_change
    assert change.what == "stock in A", "who holds nothing takes no part"
    fenced = override(ring_fence=3)._replace(committed_us=NOW - 3)
    change = account_for(facts(rows, WEB, APP, web=fenced), APP, None).last_change
    assert change.what == "override of web for this SKU", "its ring-fence is part of the number"


def test_a_deleted_row_can_be_the_last_change():
    state = projected(facts({"A": row(9), "B": row(1, version=4)}))
    gone = state.levels["B"]._replace(deleted=True, version=5, committed_us=NOW - 4)
    state = state._replace(levels={**state.levels, "B": gone})
    change = account_for(facts({"A": row(9)}), WEB, state).last_change
    assert (change.what, change.version) == ("stock in B deleted", 5)


def agreement_of(about, state, channel="web", fresh=False):
    account = account_for(about, WEB, state)
    redis = redis_says(shown(state), channel, account.promised, fresh=fresh)
    topic = topic_says(told(state, channel), promised_fields(account.promised), fresh=fresh)
    return redis, topic


def test_a_difference_says_what_differs():
    redis, topic = agreement_of(facts({"A": row(8, version=4)}), projected(facts({"A": row(9)})))
    assert redis.agreement is topic.agreement is Agreement.DIFFERS
    assert ("available", 8, 9) in redis.mismatches
    assert ("available", 8, 9) in topic.mismatches


def test_a_difference_from_the_last_second_is_in_flight():
    redis, _ = agreement_of(
        facts({"A": row(8, version=4)}), projected(facts({"A": row(9)})), fresh=True
    )
    assert redis.agreement is Agreement.IN_FLIGHT
    assert redis.mismatches
    last = account_for(facts({"A": row(8, at=NOW - 999_999)}), WEB, None).last_change
    assert is_fresh(last, NOW)
    assert not is_fresh(last._replace(at_us=NOW - 1_000_000), NOW)
    assert not is_fresh(None, NOW)


def test_a_tombstone_and_nothing_both_mean_not_listed():
    assert topic_says(None, None, fresh=False).agreement is Agreement.AGREES
    assert topic_says(LastMessage(0, 1, None), None, fresh=False).agreement is Agreement.AGREES
    missing = topic_says(LastMessage(0, 1, None), {"available": 1}, fresh=False)
    assert missing.mismatches == (("listed", True, False),)
    ghost = topic_says(LastMessage(0, 1, b'{"available": 1}'), None, fresh=False)
    assert ghost.mismatches == (("listed", False, True),)
    assert redis_says({}, "web", None, fresh=False).agreement is Agreement.AGREES


def test_a_missing_field_is_not_as_good_as_null():
    says = topic_says(LastMessage(0, 1, b"{}"), {"restock_at": None}, fresh=False)
    assert says.agreement is Agreement.DIFFERS


@pytest.mark.parametrize("value", [b"not json", b"[1, 2]", b"7"])
def test_what_no_worker_has_written_differs_and_says_so(value):
    says = topic_says(LastMessage(0, 1, value), {"available": 1}, fresh=True)
    assert says.agreement is Agreement.DIFFERS
    assert "no worker has written this" in says.reason
    redis = redis_says({"web": "many"}, "web", None, fresh=True)
    assert redis.agreement is Agreement.DIFFERS


def test_a_level_is_compared_row_by_row():
    committed = row(9, 2, 1, version=4)
    value = {"on_hand": 9, "reserved": 2, "safety_stock": 1, "incoming": 0, "available": 6}
    good = LastMessage(0, 1, orjson.dumps({**value, "version": 4}))
    assert level_says(good, committed, fresh=False).agreement is Agreement.AGREES
    old = LastMessage(0, 1, orjson.dumps({**value, "version": 2}))
    assert level_says(old, committed, fresh=False).agreement is Agreement.DIFFERS
    assert level_says(LastMessage(0, 1, None), None, fresh=False).agreement is Agreement.AGREES
    assert level_says(good, None, fresh=False).agreement is Agreement.DIFFERS


def movement_agreement(message, committed, truncated=False):
    return movement_says(message, committed, ERP, fresh=False, truncated=truncated).agreement


def test_a_movement_may_be_left_out_or_have_expired():
    committed = row(9, 2, version=4, caused_by="alice")
    value = orjson.dumps({"on_hand": 9, "reserved": 2, "version": 4})
    assert movement_agreement(LastMessage(0, 1, value), committed) is Agreement.AGREES
    assert movement_agreement(None, committed) is Agreement.DIFFERS
    assert movement_agreement(None, committed, truncated=True) is Agreement.AGREES
    assert movement_agreement(None, row(9, version=4, caused_by="erp-sync")) is Agreement.AGREES
    stale = LastMessage(0, 1, orjson.dumps({"on_hand": 1, "reserved": 2, "version": 2}))
    assert movement_agreement(stale, committed, truncated=True) is Agreement.DIFFERS


def test_the_worst_counts():
    assert worst() is Agreement.AGREES
    assert worst(Agreement.IN_FLIGHT, Agreement.AGREES) is Agreement.IN_FLIGHT
    assert worst(Agreement.UNKNOWN, Agreement.DIFFERS) is Agreement.DIFFERS


def test_json_has_all_of_it():
    about = facts({"A": row(9, reason="order")}, web=override(ring_fence=3))
    account = account_for(about, WEB, projected(about))
    assert isinstance(account, Account)
    redis, topic = agreement_of(about, projected(about))
    text = orjson.dumps(explanation_dict(Explanation(account, redis, topic)))
    found = orjson.loads(text)
    assert (found["available"], found["agreement"]) == (9, "agrees")
    assert found["warehouses"][0]["row"]["reason"] == "order"
    assert found["warehouses"][0]["ring_fenced"] == {"web": 3}
    assert found["steps"][-1]["left"] == 9
    assert found["override"]["ring_fence"] == 3
    assert found["policy"]["version"] == 2
    assert (found["topic"]["partition"], found["topic"]["offset"]) == (1, 7)
    assert found["last_change"]["at"].endswith("Z")


def test_policies_of_other_kinds_do_not_take_part():
    assert [p.name for p in facts({}).sellers.policies] == ["app", "web"]
    assert facts({}).sellers == PolicySet.of((WEB, APP))


class Scripted(Explainer):
    """Finds these one after the other, the last one again and again."""

    def __init__(self, *agreements):
        self.left = list(agreements)

    def _look(self, sku, channel):
        says = Says(self.left.pop(0) if len(self.left) > 1 else self.left[0])
        return Explanation(account_for(facts({}), WEB, None), says, says)


def test_patience_looks_again_while_something_differs():
    late = Scripted(Agreement.DIFFERS, Agreement.DIFFERS, Agreement.AGREES)
    assert late.explain("S", "web", patience=60).agreement is Agreement.AGREES
    hasty = Scripted(Agreement.DIFFERS, Agreement.AGREES)
    assert hasty.explain("S", "web").agreement is Agreement.DIFFERS
    wrong = Scripted(Agreement.DIFFERS)
    assert wrong.explain("S", "web", patience=0.2).agreement is Agreement.DIFFERS
