"""Alerts leave once for each crossing, whatever is replayed."""

import signal

import pytest

from inventory.topics import ALERTS
from stockwire_client.names import channel_topic
from tests.e2e.test_faults import python_module, workers  # noqa: F401 - a fixture
from tests.polling import eventually

pytestmark = pytest.mark.e2e

INSERT = "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'T-1', %s)"
SET = "UPDATE inventory.stock SET on_hand = %s WHERE sku = %s"


def kinds(alerts, sku, channel):
    return [told["kind"] for told in alerts.of(sku) if told["channel"] == channel]


def test_each_crossing_is_told_once_on_each_channel(stack, database, tail, sku):
    alerts, web = tail(ALERTS), tail(channel_topic("web"))
    database.execute(INSERT, [sku, 20])
    for on_hand in (7, 5, 6, 3, 0, 0, 4, 9, 20, 0):
        database.execute(SET, [on_hand, sku])
        web.until(lambda m, n=on_hand: m.key == sku.encode() and m.json["available"] == n)
        web.seen.clear()
    last = alerts.until(
        lambda m: (
            m.key == sku.encode()
            and (m.json["channel"], m.json["previous_available"]) == ("web", 20)
        )
    )
    assert last.json["previous_status"] == "in_stock"
    assert last.headers["ce_id"].decode() == last.json["alert_id"]
    eventually(lambda: alerts.drain() and len(kinds(alerts, sku, "app")) == 4)
    expected = ["low_stock", "out_of_stock", "back_in_stock", "out_of_stock"]
    assert kinds(alerts, sku, "web") == kinds(alerts, sku, "app") == expected


@pytest.mark.parametrize("how", ["kill", "told"])
def test_a_crash_neither_loses_nor_repeats_one(workers, database, tail, sku, how):  # noqa: F811
    alerts, web = tail(ALERTS), tail(channel_topic("web"))
    database.execute(INSERT, [sku, 20])
    web.until(lambda m: m.key == sku.encode())
    workers.stop_part("availability")
    crashing = python_module("tests.e2e.crashing_worker", how, sku)
    try:
        database.execute(SET, [0, sku])
        assert crashing.wait(timeout=60) == -signal.SIGKILL
    finally:
        crashing.kill()
    workers.start_part("availability")
    alerts.until(lambda m: m.key == sku.encode() and m.json["channel"] == "web")
    # What comes after the replay shows that the replay has been dealt with.
    database.execute(SET, [30, sku])
    alerts.until(lambda m: m.key == sku.encode() and m.json["kind"] == "back_in_stock")
    eventually(lambda: alerts.drain() and len(kinds(alerts, sku, "app")) == 2)
    assert kinds(alerts, sku, "web") == ["out_of_stock", "back_in_stock"]
    assert kinds(alerts, sku, "app") == ["out_of_stock", "back_in_stock"]
