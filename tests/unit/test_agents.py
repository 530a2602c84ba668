"""The agents with ports in memory: what is published, in which order, and what is set aside."""

import asyncio
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.policy_envelope import OverrideChange
from inventory.errors import Outage
from inventory.policy import ChannelKind, ChannelOverride, ChannelPolicy
from inventory.stock import Operation
from inventory.topics import DEAD_LETTER, STOCK
from projections.ports import Replaced
from stream.agents.availability import AvailabilityAgent
from stream.agents.ledger import LedgerAgent
from stream.alerts import Alerts
from stream.changes import Decoded, conflate, decode
from stream.inbox import Batch, Inbox
from stream.policy import PolicyTable
from stream.roll import Roll
from tests.fakes import FakeAlertLog, FakeChannels, FakeProjector, FakePublisher, NothingLost
from tests.ledger_world import FakeStandings, Stock
from tests.recorded import altered, recorded

OFFSETS = itertools.count()


def policies(*channels):
    table = PolicyTable()
    for channel in channels or (
        ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1"),
        ChannelPolicy("app", ChannelKind.AVAILABILITY, "stock.app.v1", buffer=1),
        ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1"),
        ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1"),
    ):
        table.put(channel)
    return table


def availability_agent(publisher, projector=None, recovery=None):
    return AvailabilityAgent(
        FakeChannels(*policies().of_kind(ChannelKind.AVAILABILITY)),
        projector or FakeProjector(),
        publisher,
        Alerts(FakeAlertLog()),
        recovery or NothingLost(),
    )


def ledger_agent(publisher, *channels):
    """Everything comes live, from the beginning on."""
    standings = FakeStandings(Stock(ends=[10_000] * 8), {})
    roll = Roll(policies(*channels), publisher, standings, Inbox(1), lambda: ())
    return LedgerAgent(roll)


def update(sku="SKU-1", warehouse="WH-1", on_hand=10, version=10):
    record = altered(
        "stock_update",
        after__sku=sku,
        after__warehouse=warehouse,
        after__on_hand=on_hand,
        after__reserved=0,
        after__safety_stock=0,
        after__version=version,
    )
    return record._replace(offset=next(OFFSETS))


def told(publisher, topic):
    return [
        json.loads(message.value) if message.value else None
        for message in publisher.published
        if message.topic == topic
    ]


def deliver(agent, *records):
    async def scenario():
        await (await agent(Batch(list(records))))

    asyncio.run(scenario())


@pytest.fixture
def publisher():
    return FakePublisher()


def test_availability_is_told_to_availability_channels_only(publisher):
    deliver(availability_agent(publisher), update(on_hand=10))
    assert [m["available"] for m in told(publisher, "stock.web.v1")] == [10]
    assert [m["available"] for m in told(publisher, "stock.app.v1")] == [9]
    assert {m.topic for m in publisher.published} == {"stock.web.v1", "stock.app.v1"}


def test_a_batch_is_conflated_to_the_last_version_of_each_row(publisher):
    deliver(
        availability_agent(publisher),
        update(on_hand=10, version=10),
        update(on_hand=8, version=14),
        update(on_hand=9, version=12),
        update(warehouse="WH-2", on_hand=5, version=16),
    )
    assert [m["available"] for m in told(publisher, "stock.web.v1")] == [13]


def test_movements_are_never_conflated(publisher):
    deliver(
        ledger_agent(publisher),
        *(update(on_hand=n, version=2 * n)._replace(offset=n - 20) for n in range(20, 25)),
    )
    assert [m["on_hand"] for m in told(publisher, "stock.erp.v1")] == [20, 21, 22, 23, 24]
    assert [m["on_hand"] for m in told(publisher, "stock.wms.v1")] == [20, 21, 22, 23, 24]


def test_a_ledger_channel_hears_of_its_warehouses_only(publisher):
    only = ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1", ("WH-2",))
    deliver(ledger_agent(publisher, only), update(warehouse="WH-1"), update(warehouse="WH-2"))
    assert [m["warehouse"] for m in told(publisher, "stock.wms.v1")] == ["WH-2"]


@pytest.mark.parametrize(
    "make",
    [
        lambda publisher: availability_agent(publisher),
        lambda publisher: ledger_agent(publisher),
    ],
)
def test_what_cannot_be_read_is_set_aside_and_the_rest_goes_on(publisher, make):
    broken = recorded("stock_update")._replace(value=b"{", partition=3, offset=41)
    agent = make(publisher)
    deliver(agent, update("A"), broken, update("B"))
    (dead,) = (m for m in publisher.published if m.topic == DEAD_LETTER)
    assert (dead.key, dead.value) == (broken.key, b"{")
    headers = dict(dead.headers)
    assert headers["__connect.errors.topic"] == b"stockwire.inventory.stock"
    assert headers["__connect.errors.partition"] == b"3"
    assert headers["__connect.errors.offset"] == b"41"
    assert headers["__connect.errors.connector.name"] == agent.name.encode()
    assert headers["__connect.errors.exception.class.name"] == b"inventory.errors.InvalidEvent"
    assert b"JSON" in headers["__connect.errors.exception.message"]
    assert {m.headers[5][1].split(b"|")[0] for m in publisher.published if m is not dead} == {
        b"A",
        b"B",
    }


def test_the_trace_of_a_change_goes_on_in_every_message_about_it(publisher):
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    traced = update("A")._replace(headers=(("traceparent", trace),), offset=0)
    records = [traced, update("B")._replace(offset=1)]
    deliver(availability_agent(publisher), *records)
    deliver(ledger_agent(publisher), *records)
    carried = {
        (message.topic, message.key.decode()[0]): dict(message.headers).get("traceparent")
        for message in publisher.published
    }
    topics = ("stock.web.v1", "stock.app.v1", "stock.wms.v1", "stock.erp.v1")
    assert carried == {(t, sku): trace if sku == "A" else None for t in topics for sku in "AB"}


def test_what_a_channel_has_caused_itself_is_an_echo(publisher):
    """A ledger would count it twice; a level is absolute, and its topic must hold it."""
    channels = (
        ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1", echo_of="robot"),
        ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1", echo_of="robot"),
        ChannelPolicy("crm", ChannelKind.MOVEMENT, "stock.crm.v1"),
    )
    own = altered("stock_update", after__caused_by="robot")._replace(offset=0)
    deliver(ledger_agent(publisher, *channels), own, update("OTHER")._replace(offset=1))
    assert [m["sku"] for m in told(publisher, "stock.erp.v1")] == ["OTHER"]
    assert len(told(publisher, "stock.crm.v1")) == 2
    levels = [m for m in publisher.published if m.topic == "stock.wms.v1"]
    assert [dict(m.headers).get("stockwire_echo") for m in levels] == [b"true", None]


def test_a_tombstone_says_nothing(publisher):
    deliver(ledger_agent(publisher), recorded("stock_tombstone"))
    assert publisher.published == []


def test_an_event_that_was_applied_is_published_again_as_it_was(publisher):
    agent = availability_agent(publisher)
    record = update()
    deliver(agent, record)
    deliver(agent, record)
    first, second = told(publisher, "stock.web.v1")
    assert first == second


def test_an_outage_is_retried_until_it_is_over_and_is_no_dead_letter(publisher):
    class Failing(FakeProjector):
        failures = 3

        async def write(self, *arguments):
            if self.failures:
                self.failures -= 1
                raise Outage("Redis is away")
            return await super().write(*arguments)

    deliver(availability_agent(publisher, Failing()), update(on_hand=4))
    assert [m["available"] for m in told(publisher, "stock.web.v1")] == [4]
    assert not [m for m in publisher.published if m.topic == DEAD_LETTER]


def test_a_row_that_was_read_again_is_told_again(publisher):
    agent = availability_agent(publisher)
    deliver(agent, update(on_hand=4, version=10))
    again = altered(
        "stock_incremental_snapshot",
        after__sku="SKU-1",
        after__warehouse="WH-1",
        after__on_hand=4,
        after__reserved=0,
        after__safety_stock=0,
        after__version=10,
    )
    deliver(agent, again)
    first, second = told(publisher, "stock.web.v1")
    assert second["available"] == first["available"] == 4
    assert second["version"] > first["version"]


@pytest.mark.parametrize(("addressee", "heard"), [("availability", 1), ("ledger", 0), ("é", 0)])
def test_a_repair_is_for_one_of_the_apps_alone(publisher, addressee, heard):
    only = update()._replace(headers=(("stockwire_repair", addressee.encode("latin-1")),), offset=0)
    deliver(availability_agent(publisher), only)
    deliver(ledger_agent(publisher), only)
    assert len(told(publisher, "stock.web.v1")) == heard
    assert len(told(publisher, "stock.erp.v1")) == (addressee == "ledger")
    assert not told(publisher, DEAD_LETTER)


def test_a_ghost_that_is_gone_already_is_told_again_and_its_version_is_none_of_postgres(publisher):
    projector = FakeProjector()
    agent = availability_agent(publisher, projector)
    deliver(agent, update(on_hand=4, version=10))
    gone = altered(
        "stock_delete",
        before__sku="SKU-1",
        before__warehouse="WH-1",
        before__version=9_000,
    )
    only = gone._replace(headers=(("stockwire_repair", b"availability"),))
    deliver(agent, only)
    deliver(agent, only)
    web = [message.value for message in publisher.published if message.topic == "stock.web.v1"]
    assert web.count(None) == 2
    changes = conflate(decode([only], agent.name))
    assert changes["SKU-1"].repair, "readers may have it, though Redis knows that it is gone"
    assert projector.version == 10, "the guardian would take Postgres for one that was set back"


def replacing(version: bytes):
    """The auditor's delete of a row that Redis has in another version than Postgres ever had."""
    gone = altered("stock_delete", before__sku="SKU-1", before__warehouse="WH-1", before__version=8)
    addressee = ("stockwire_repair", b"availability")
    return gone._replace(headers=(addressee, ("stockwire_replaces", version)))


def test_a_false_version_makes_way_for_the_row_as_it_is(publisher):
    projector = FakeProjector()
    agent = availability_agent(publisher, projector)
    deliver(agent, update(on_hand=4, version=9_000))
    deliver(agent, replacing(b"9000"))
    assert projector.states["SKU-1"].levels["WH-1"].version == 9
    deliver(agent, update(on_hand=7, version=10))
    assert projector.states["SKU-1"].levels["WH-1"].on_hand == 7


def test_a_batch_has_both_the_false_version_and_the_row_as_it_is(publisher):
    changes = conflate(
        decode([replacing(b"9000"), update(on_hand=7, version=10)], "stockwire-availability")
    )
    assert changes["SKU-1"].replaced == Replaced({"WH-1": 9_000})
    assert changes["SKU-1"].levels["WH-1"].on_hand == 7


@pytest.mark.parametrize("rest", [(), (8,), (10,)])
def test_a_false_version_does_not_win_over_what_replaces_it_in_the_same_batch(rest):
    """And as stale as what follows may be, it is told by versions again."""
    records = [update(on_hand=99, version=9_000), replacing(b"9000")]
    records += [update(on_hand=number, version=number) for number in rest]
    level = conflate(decode(records, "stockwire-availability"))["SKU-1"].levels["WH-1"]
    assert level.version == max(9, *rest, 0)
    assert level.on_hand == (10 if rest == (10,) else 0)


def test_an_override_in_a_false_version_loses_in_its_batch_alike():
    own = ChannelOverride(8, 5, ring_fence=4)
    false = own._replace(version=9_000, ring_fence=0)
    changes = [
        OverrideChange(Operation.UPDATE, "SKU-1", "web", false),
        OverrideChange(Operation.READ, "SKU-1", "web", own, 9_000),
    ]
    found = conflate(Decoded([], changes, {"SKU-1": 0}, []))["SKU-1"]
    assert found.overrides["web"] == own
    assert found.replaced == Replaced({}, {"web": 9_000})


def test_a_ledger_hears_nothing_of_what_redis_has_wrong(publisher):
    deliver(ledger_agent(publisher), replacing(b"9000"))
    assert not publisher.published


@pytest.mark.parametrize("version", [b"", b"-1", b"x", "²".encode(), b"9" * 5_000])
def test_a_version_that_is_none_is_set_aside(publisher, version):
    deliver(availability_agent(publisher), replacing(version))
    (letter,) = told(publisher, DEAD_LETTER)
    assert not told(publisher, "stock.web.v1")
    assert letter is not None


def test_what_is_restored_is_loaded_and_neither_projected_nor_told(publisher):
    class Restored(NothingLost):
        restoring = frozenset({1})

        async def loaded(self, positions):
            self.positions = positions

    projector, restored = FakeProjector(), Restored()
    agent = availability_agent(publisher, projector, restored)
    deliver(
        agent,
        update("A")._replace(partition=1, offset=3),
        update("B")._replace(partition=2, offset=5),
    )
    assert [m["sku"] for m in told(publisher, "stock.web.v1")] == ["B"]
    assert projector.states["A"].published is None
    assert projector.states["A"].levels
    assert restored.positions == {(STOCK, 1): 4}
    assert projector.checkpoint == {(STOCK, 1): 4, (STOCK, 2): 6}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A", "B"]), st.sampled_from(["WH-1", "WH-2"]), st.integers(0, 50)
        ),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_conflation_keeps_the_highest_version_of_every_row_in_any_order(rows, random):
    records = [
        update(sku, warehouse, on_hand=number, version=2 * number)
        for sku, warehouse, number in rows
    ]
    random.shuffle(records)
    latest = conflate(decode(records, "test"))
    found = {
        (s, w): level.version
        for s, changes in latest.items()
        for w, level in changes.levels.items()
    }
    expected = {}
    for sku, warehouse, number in rows:
        expected[sku, warehouse] = max(expected.get((sku, warehouse), 0), 2 * number)
    assert found == expected
