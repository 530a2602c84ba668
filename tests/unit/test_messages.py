"""What the channels are told, as the contract has it."""

import orjson
import pytest
from pydantic import TypeAdapter

from connectors.envelope import read_stock_change
from inventory.messages import availability_messages, level_message, movement_message, timestamp
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.projection import ChannelState, SkuProjection
from stockwire_client.contract import AvailabilityMessage, LevelMessage, MovementMessage, Status
from tests.recorded import recorded

WMS = ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1")
ERP = ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1")
COMMITTED = "2026-11-21T06:19:24.255483Z"


def change(name):
    return read_stock_change(recorded(name).value)


def test_timestamps_keep_their_microseconds():
    assert timestamp(1795241964255483) == COMMITTED
    assert timestamp(1795241964000000) == "2026-11-21T06:19:24.000000Z"


def test_availability():
    clock = 1795241964255483
    state = ChannelState(12, Status.IN_STOCK, 13, clock, clock, None, 0, 10, Status.LOW_STOCK)
    projection = SkuProjection(
        "SKU-1", 3, "f", 1795241964255483, 1795241964255483, {"web": state, "elsewhere": state}
    )
    (message,) = availability_messages(projection, [("web", "stock.web.v1")])
    assert (message.topic, message.key) == ("stock.web.v1", b"SKU-1")
    assert orjson.loads(message.value) == {
        "sku": "SKU-1",
        "channel": "web",
        "available": 12,
        "status": "in_stock",
        "previous_available": 13,
        "backorderable": 0,
        "order_limit": 10,
        "version": 1795241964255483,
        "committed_at": COMMITTED,
        "restock_at": None,
    }
    TypeAdapter(AvailabilityMessage).validate_json(message.value)
    assert dict(message.headers) == {
        "ce_id": b"SKU-1|1795241964255483",
        "ce_source": b"/stockwire/channels/web",
        "ce_type": b"stockwire.availability.v1",
        "ce_specversion": b"1.0",
        "ce_time": COMMITTED.encode(),
        "ce_subject": b"SKU-1",
    }


def test_a_sku_that_is_gone_from_a_channel_is_a_tombstone():
    projection = SkuProjection("SKU-1", 3, "f", 7, 5, {"web": None})
    (message,) = availability_messages(projection, [("web", "stock.web.v1")])
    assert message.value is None
    assert dict(message.headers)["ce_id"] == b"SKU-1|7"


def test_level():
    message = level_message(change("stock_update"), WMS, COMMITTED)
    assert message.key == b"SKU-1|WH-1"
    told = TypeAdapter(LevelMessage).validate_json(message.value)
    assert (told["on_hand"], told["reserved"], told["available"], told["version"]) == (10, 1, 8, 10)
    assert (told["reason"], told["reference"]) == ("order", "ORD-1")


def test_a_deleted_row_is_a_tombstone_of_its_level():
    message = level_message(change("stock_delete"), WMS, COMMITTED)
    assert (message.key, message.value) == (b"SKU-2|WH-1", None)


@pytest.mark.parametrize(
    ("name", "kind", "deltas", "quantities", "previous"),
    [
        ("stock_insert", "movement", "all", "after", None),
        ("stock_update", "movement", (0, 1), (10, 1), 2),
        ("stock_delete", "movement", (-3, 0), (0, 0), 6),
        ("stock_snapshot", "balance", (None, None), (7, 2), None),
        ("stock_incremental_snapshot", "balance", (None, None), (10, 1), None),
    ],
)
def test_movement(name, kind, deltas, quantities, previous):
    event = change(name)
    message = movement_message(event, ERP, COMMITTED)
    assert message.key == event.sku.encode()
    told = TypeAdapter(MovementMessage).validate_json(message.value)
    if deltas == "all":
        deltas = quantities = (event.after.on_hand, event.after.reserved)
    assert told["kind"] == kind
    assert (told["delta_on_hand"], told["delta_reserved"]) == deltas
    assert (told["on_hand"], told["reserved"]) == quantities
    assert told["previous_version"] == previous
    assert told["movement_id"] == f"{event.sku}|{event.warehouse}|{event.version}"


def test_a_movement_is_the_same_when_it_is_delivered_again():
    again = [movement_message(change("stock_update"), ERP, COMMITTED) for _ in range(2)]
    assert again[0] == again[1]


def test_a_delete_does_not_repeat_the_reason_of_the_update_before_it():
    told = orjson.loads(movement_message(change("stock_key_change_delete"), ERP, COMMITTED).value)
    assert (told["reason"], told["reference"], told["caused_by"]) == ("unattributed", None, None)
