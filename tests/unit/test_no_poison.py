"""No poison pill: what is accepted from the topic can be projected, stored and told.

Anything else would raise in an agent, end the worker, and meet it again after the restart.
"""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.envelope import read_stock_change
from inventory.errors import InvalidEvent
from inventory.messages import availability_messages, level_message, movement_message, timestamp
from inventory.policy import ChannelKind, ChannelPolicy, PolicySet
from inventory.projection import SkuState, project
from inventory.stock import level_of
from projections.codec import decode_level, encode_level, encode_projection
from tests.recorded import recorded

WEB = ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1")
WMS = ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1")
ERP = ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1")
POLICIES = PolicySet.of([WEB])

numbers = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([2**31 - 1, 2**31, -(2**31), 2**53, 2**63, 10**20, -(10**20)]),
    st.integers(),
)
moments = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:59:59-05:00",
            "0001-01-01T00:00:00+14:00",
            "1969-12-31T23:59:59Z",
            "infinity",
        ]
    ),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
)
events = st.fixed_dictionaries(
    {
        "on_hand": numbers,
        "reserved": numbers,
        "safety_stock": numbers,
        "incoming": numbers,
        "incoming_at": moments,
        "version": numbers,
        "sku": st.text(max_size=210),
        "warehouse": st.text(max_size=70),
        "reason": st.one_of(st.none(), st.text(max_size=20)),
    }
)


@given(events, numbers)
@example({"incoming": 1, "incoming_at": "9999-12-31T23:59:59.999999Z"}, 1795241964255483)
@example({}, 10**18)
@example({"on_hand": 10**20, "safety_stock": -(10**20)}, 1795241964255483)
def test_what_is_accepted_can_be_told(row, committed_us):
    event = json.loads(recorded("stock_update").value)
    event["after"] |= row
    event["source"]["ts_us"] = committed_us
    try:
        change = read_stock_change(json.dumps(event).encode())
    except InvalidEvent:
        return
    level = level_of(change)
    assert decode_level(encode_level(level).encode()) == level
    projection = project(SkuState(change.sku, 1, {change.warehouse: level}, None), POLICIES)
    assert encode_projection(projection)
    committed_at = timestamp(change.committed_us)
    (web,) = availability_messages(projection, [("web", "stock.web.v1")])
    for message in (
        web,
        level_message(change, WMS, committed_at),
        movement_message(change, ERP, committed_at),
    ):
        assert json.loads(message.value)


@pytest.mark.parametrize(
    "row",
    [
        {"on_hand": 2**31},
        {"safety_stock": -(10**20)},
        {"incoming_at": "0001-01-01T00:00:00+14:00"},
        {"incoming_at": "9999-12-31T23:59:59-05:00"},
    ],
)
def test_what_cannot_be_told_is_refused(row):
    event = json.loads(recorded("stock_update").value)
    event["after"] |= row
    with pytest.raises(InvalidEvent):
        read_stock_change(json.dumps(event).encode())
