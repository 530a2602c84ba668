"""Channels of kind level and movement join, leave, fail and heal alone, whatever happens."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from inventory.policy import ChannelKind, ChannelPolicy
from inventory.standing import State
from tests.booking import assert_adds_up
from tests.ledger_world import PARTS, WAREHOUSES, World

WMS = ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1")
ERP = ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1")
DEPOT = ChannelPolicy("depot", ChannelKind.LEVEL, "stock.depot.v1", ("W1",))
BOOKS = ChannelPolicy("books", ChannelKind.MOVEMENT, "stock.books.v1", ("W2",), echo_of="books")
ALL = {policy.name: policy for policy in (WMS, ERP, DEPOT, BOOKS)}
TOPICS = sorted(policy.topic for policy in ALL.values())
SKUS = ("A", "B", "C")


async def act(world, action, number):  # noqa: C901 - one case for each action
    worker = world.workers[number % 2]
    pick = number // 2
    match action:
        case "change":
            sku, warehouse = SKUS[pick % 3], WAREHOUSES[pick // 3 % 2]
            quantity = None if pick % 5 == 0 else pick % 37
            world.stock.change(sku, warehouse, quantity, "shop")
        case "live":
            await worker.live(1 + pick % 4)
        case "step":
            await worker.step()
        case "settle":
            await worker.settle()
        case "arrive":
            worker.lanes.arrive(pick % 9)
        case "commit":
            worker.commit()
        case "close":
            topic = TOPICS[pick % len(TOPICS)]
            world.down.add(topic)
            for each in world.workers:
                each.lanes.refuse(topic, pick % 3)
        case "open":
            world.down.discard(TOPICS[pick % len(TOPICS)])
        case "compact":
            world.stock.compact(pick % PARTS, pick % 4)
        case "crash":
            world.crash(number % 2, pick % 5)
        case "rebalance":
            await world.rebalance([number % 2, pick % 2], pick % 3)
        case "add":
            name = sorted(ALL)[pick % len(ALL)]
            if name not in world.policies():
                world.table.put(ALL[name])
        case "edit":
            choice = (None, ("W1",), ("W2",), ("W2", "W1"))[pick % 4]
            world.edit(sorted(ALL)[pick // 4 % len(ALL)], choice)
        case "remove":
            world.remove(sorted(ALL)[pick % len(ALL)])


def assert_told(world):
    """Every channel has been told what Postgres says."""
    rows = world.stock.rows
    for name, policy in ALL.items():
        there = world.policies().get(name)
        if policy.kind is ChannelKind.LEVEL:
            sold = (
                {} if there is None else {k: r for k, r in rows.items() if there.sells_from(k[1])}
            )
            levels = {key: value for key, value in world.last_values(policy.topic).items() if value}
            assert {key: (v["on_hand"], v["version"]) for key, v in levels.items()} == {
                f"{sku}|{code}": (row["on_hand"], row["version"])
                for (sku, code), row in sold.items()
            }, name
        elif there is not None:
            sold = {
                key: (row["on_hand"], row["reserved"])
                for key, row in rows.items()
                if there.sells_from(key[1])
            }
            told = world.movements(policy.topic)
            assert_adds_up(sold, [m for m in told if there.sells_from(m["warehouse"])])
        if there is None:
            assert name not in world.standings.kept, name
        else:
            parts = {(n, f"{part}/{PARTS}".encode()) for n in range(PARTS) for part in range(PARTS)}
            assert world.ends(policy.topic) == parts, name
            states = {s.state for s in world.standings.kept[name].values()}
            assert states == {State.LIVE}, name


ACTIONS = (
    *("change",) * 6,
    *("live", "step", "settle") * 5,
    *("arrive",) * 3,
    *("commit", "close", "open", "compact", "crash", "rebalance", "add", "edit", "remove"),
)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 4000)), min_size=60, max_size=200),
    st.sampled_from((1, 3, 250)),
    st.sets(st.sampled_from(sorted(ALL))),
)
def test_whatever_happens_everybody_is_told_everything(history, chunk, channels):
    async def scenario():
        world = World(chunk, *(ALL[name] for name in sorted(channels)))
        for action, number in history:
            await act(world, action, number)
        await world.come_to_rest()
        assert_told(world)

    run(scenario)


def run(scenario):
    with capture_logs():
        asyncio.run(scenario())


async def settled(worker):
    while await worker.settle():
        pass


async def told_by_now(worker):
    """All that there is to do, and the live path where it is."""
    while await worker.step():
        await settled(worker)


def test_a_channel_that_is_ahead_of_the_live_path_is_told_nothing_twice():
    async def scenario():
        world = World(250)
        worker = world.workers[0]
        world.stock.change("B", "W1", 1, None)
        await worker.live(9)
        await settled(worker)
        for quantity in (2, 3):
            world.stock.change("B", "W1", quantity, None)
        world.table.put(ERP)
        await told_by_now(worker)
        world.stock.change("B", "W1", 4, None)
        await worker.live(9)
        await settled(worker)
        told = [(m["kind"], m["on_hand"]) for m in world.movements(ERP.topic)]
        assert told == [("balance", 3), ("movement", 4)]

    run(scenario)


def test_a_setback_outlives_the_end_of_what_was_under_way():
    async def scenario():
        world = World(250)
        worker = world.workers[0]
        world.stock.change("B", "W1", 1, None)
        await worker.live(9)
        await settled(worker)
        world.table.put(WMS)
        while (place := worker.roll.place("wms", 0)) is None or not place.live:
            await worker.step()
        worker.lanes.arrive(99)
        world.down.add(WMS.topic)
        worker.lanes.refuse(WMS.topic, 0)
        world.stock.change("B", "W1", 2, None)
        await worker.live(9)
        await settled(worker)
        assert world.standings.kept["wms"][0].state is not State.LIVE
        await world.come_to_rest()
        assert world.last_values(WMS.topic)["B|W1"]["on_hand"] == 2

    run(scenario)


def test_a_ledger_that_misses_movements_is_told_balances_up_to_the_end_of_the_topic():
    async def scenario():
        world = World(1, ERP)
        worker = world.workers[0]
        await told_by_now(worker)
        world.down.add(ERP.topic)
        for sku, quantity in (("B", 1), ("D", 1), ("D", 2), ("B", 5)):
            world.stock.change(sku, "W1", quantity, None)
        await worker.live(2)
        await settled(worker)
        world.stock.compact(0, 2)
        world.stock.change("B", "W1", 7, None)
        world.down.clear()
        await told_by_now(worker)
        await world.come_to_rest()
        assert_adds_up({("B", "W1"): (7, 3), ("D", "W1"): (2, 1)}, world.movements(ERP.topic))

    run(scenario)


def test_a_topic_is_not_tried_again_before_all_that_it_refused_is_noted():
    async def scenario():
        world = World(250, WMS)
        worker = world.workers[0]
        await told_by_now(worker)
        world.stock.change("B", "W1", 1, None)
        world.down.add(WMS.topic)
        await worker.live(9)
        world.down.clear()
        assert not worker.roll.is_open(WMS.topic)
        await settled(worker)
        assert worker.roll.is_open(WMS.topic)

    run(scenario)


def test_standings_are_written_before_the_batch_is_confirmed():
    async def scenario():
        world = World(250, WMS)
        worker = world.workers[0]
        await told_by_now(worker)
        world.stock.change("B", "W1", 1, None)
        world.down.add(WMS.topic)
        await worker.live(9)
        await worker.settle()
        kept = world.standings.kept["wms"][0]
        assert (kept.state, kept.offset, kept.reason) == (State.BEHIND, 0, "down")

    run(scenario)


def test_a_topic_of_the_same_name_that_is_new_is_told_everything():
    async def scenario():
        world = World(250, WMS)
        worker = world.workers[0]
        for sku in ("A", "B"):
            world.stock.change(sku, "W1", 1, None)
        await world.come_to_rest()
        worker.lanes.refuse(WMS.topic, 0)
        world.topics.pop(WMS.topic)
        world.standings.ids[WMS.topic] = "another"
        world.stock.change("B", "W1", 2, None)
        await world.come_to_rest()
        told = {key: value["on_hand"] for key, value in world.last_values(WMS.topic).items()}
        assert told == {"A|W1": 1, "B|W1": 2}

    run(scenario)


def test_what_was_refused_is_noted_though_the_partition_is_being_revoked():
    async def scenario():
        world = World(250, WMS)
        worker = world.workers[0]
        world.stock.change("A", "W1", 1, None)
        await world.come_to_rest()
        world.stock.change("B", "W1", 1, None)
        await worker.live(9)
        worker.lanes.refuse(WMS.topic, 0)
        world.stock.change("A", "W1", 2, None)
        await world.rebalance([1, 1], meanwhile=9)
        assert world.standings.kept["wms"][0].state is State.BEHIND
        await world.come_to_rest()
        assert world.last_values(WMS.topic)["B|W1"]["on_hand"] == 1

    run(scenario)
