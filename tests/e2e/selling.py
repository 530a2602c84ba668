"""Sales in the background, and what a channel was told against what the rules say."""

from contextlib import contextmanager

from audit.auditor import Auditor
from audit.postgres import read_stock
from bench.background import loading
from bench.workload import WorkloadPlan
from inventory.availability import promises
from inventory.policy import PolicySet
from stockwire_client.contract import SNAPSHOT_PART
from stockwire_client.names import channel_topic
from tests.e2e.whole_topic import read_topic
from tests.polling import eventually

SKUS = 300
WAREHOUSES = 3
RATE = 300


@contextmanager
def selling(settings, seed, rate=RATE):
    """Sell while inside."""
    plan = WorkloadPlan(seed, SKUS, WAREHOUSES)
    with loading(settings.conninfo(), plan, changes_per_second=rate, duration=None) as run:
        eventually(lambda: run.report.changes > 0)
        yield run
        run.stop()
        assert run.wait(60)
        assert run.result().changes > 0


def whole(settings, channel):
    """Everything on a channel's topic."""
    return read_topic(settings.kafka_bootstrap, channel_topic(channel))


def told(settings, channel):
    """What the channel's subscribers have by now: the last message of each SKU."""
    return {
        message.key.decode(): message.json
        for message in whole(settings, channel)
        if SNAPSHOT_PART not in message.headers
    }


def promised(settings, channel):
    """What the rules say of each SKU that a channel lists, statuses aside."""
    stock = read_stock(settings.conninfo())
    policies = PolicySet.of(stock.policies).policies
    found = {
        sku: promises(levels, stock.overrides.get(sku, {}), policies, {})[channel]
        for sku, levels in stock.levels.items()
    }
    return {
        sku: (each.available, each.backorderable, each.order_limit)
        for sku, each in found.items()
        if each is not None
    }


def said(message):
    return (message["available"], message["backorderable"], message["order_limit"])


def statuses(settings, channel):
    return {message["status"] for message in told(settings, channel).values()}


def assert_told_what_is_promised(settings, channel):
    def check():
        listed = {sku: said(m) for sku, m in told(settings, channel).items() if m is not None}
        assert listed == promised(settings, channel)
        return True

    eventually(check)


def assert_no_drift(settings):
    places = (settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap)
    with Auditor.open(*places) as auditor:
        report = auditor.audit_until_settled(patience=60)
    assert report.rows > 0
    assert report.drift == 0, report
