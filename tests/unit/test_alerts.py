"""Which alerts are published, and which of them only after a look into the topic."""

import asyncio

from inventory.policy import ChannelKind, ChannelPolicy
from inventory.topics import ALERTS, DEAD_LETTER
from projections.ports import SkuChanges
from stream.agents.availability import AvailabilityAgent
from stream.alerts import Alerts
from stream.inbox import Batch
from tests.fakes import FakeAlertLog, FakeChannels, FakeProjector, FakePublisher, NothingLost
from tests.projector_contract import POLICIES, level
from tests.recorded import altered


def sold(version, on_hand):
    return altered(
        "stock_update",
        after__sku="SKU-1",
        after__warehouse="WH-1",
        after__on_hand=on_hand,
        after__reserved=0,
        after__safety_stock=0,
        after__version=version,
    )


class Worker:
    """An agent; a crash is another one on the same projection and topics."""

    def __init__(self, projector, publisher, log):
        self.projector, self.publisher = projector, publisher
        web = ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1")
        self.agent = AvailabilityAgent(
            FakeChannels(web), projector, publisher, Alerts(log), NothingLost()
        )

    def deliver(self, record, *, settle=True):
        async def work():
            acknowledged = await self.agent(Batch([record]))
            if settle:
                await acknowledged

        asyncio.run(work())

    def alerts(self):
        return [
            dict(m.headers)["ce_id"].decode() for m in self.publisher.published if m.topic == ALERTS
        ]


def worker(projector=None, publisher=None, log=None):
    return Worker(projector or FakeProjector(), publisher or FakePublisher(), log or FakeAlertLog())


def test_a_redelivery_to_the_same_process_asks_nobody():
    log = FakeAlertLog()
    one = worker(log=log)
    one.deliver(sold(2, 20))
    for _ in range(3):
        one.deliver(sold(4, 0), settle=False)
    assert len(one.alerts()) == 1
    assert log.asked == []


def test_after_a_crash_an_alert_that_redis_knows_of_is_not_looked_up():
    one = worker()
    one.deliver(sold(2, 20))
    one.deliver(sold(4, 0))
    log = FakeAlertLog()
    two = worker(one.projector, one.publisher, log)
    two.deliver(sold(4, 0))
    assert len(two.alerts()) == 1
    assert log.asked == []


def test_after_a_crash_in_between_the_topic_decides():
    for published in (True, False):
        one = worker()
        one.deliver(sold(2, 20))
        one.deliver(sold(4, 0), settle=False)
        (alert,) = one.alerts()
        log = FakeAlertLog(*([alert] if published else []))
        two = worker(one.projector, FakePublisher(), log)
        two.deliver(sold(4, 0))
        assert two.alerts() == ([] if published else [alert])
        assert log.asked == [{alert}]
        two.deliver(sold(4, 0))
        assert len(log.asked) == 1, "asked once"


def test_after_a_crash_a_further_change_does_not_hide_the_crossing():
    for published in (True, False):
        one = worker()
        one.deliver(sold(2, 20))
        one.deliver(sold(4, 0), settle=False)
        (alert,) = one.alerts()
        two = worker(one.projector, log=FakeAlertLog(*([alert] if published else [])))
        two.deliver(sold(6, 0))
        assert two.alerts() == ([] if published else [alert])


def test_an_old_crossing_is_not_told_again_by_the_next_change():
    one = worker()
    for version, on_hand in ((2, 20), (4, 0), (6, 0)):
        one.deliver(sold(version, on_hand))
    assert len(one.alerts()) == 1


def test_written_says_which_projections_are_replayed():
    projector = FakeProjector()
    changes = {"SKU-1": SkuChanges({"ams": level(2)})}
    first = asyncio.run(projector.write(changes, POLICIES, {}))
    again = asyncio.run(projector.write(changes, POLICIES, {}))
    assert (first.replayed, again.replayed) == (frozenset(), {"SKU-1"})


def test_dead_letters_raise_no_alerts():
    one = worker()
    one.deliver(sold(2, 20)._replace(value=b"{"))
    assert [m.topic for m in one.publisher.published] == [DEAD_LETTER]
