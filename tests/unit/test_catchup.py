"""Channels of kind level and movement join, leave, fail and heal alone, whatever happens."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from inventory.policy import ChannelKind, ChannelPolicy
from stream.standing import State
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
            assert_adds_up(world, there)
        if there is None:
            assert name not in world.standings.kept, name
        else:
            parts = {(n, f"{part}/{PARTS}".encode()) for n in range(PARTS) for part in range(PARTS)}
            assert world.ends(policy.topic) == parts, name
            states = {s.state for s in world.standings.kept[name].values()}
            assert states == {State.LIVE}, name


def assert_adds_up(world, policy):
    for (sku, code), (first, *later) in world.movements(policy.topic).items():
        if not policy.sells_from(code):
            continue
        on_hand, version = (first["on_hand"], first["version"])
        if first["kind"] == "movement":
            assert first["previous_version"] is None, first
            assert first["delta_on_hand"] == on_hand
        for told in sorted(later, key=lambda told: told["version"]):
            assert told["previous_version"] == (None if version % 2 else version), told
            on_hand, version = on_hand + told["delta_on_hand"], told["version"]
            assert on_hand == told["on_hand"]
        row = world.stock.rows.get((sku, code), {"on_hand": 0})
        assert on_hand == row["on_hand"], (sku, code)
    told = {row for row in world.movements(policy.topic) if policy.sells_from(row[1])}
    assert told >= {row for row in world.stock.rows if policy.sells_from(row[1])}


ACTIONS = (
    *("change",) * 6,
    *("live", "step", "settle") * 5,
    *("commit", "close", "open", "compact", "crash", "rebalance", "add", "edit", "remove"),
)


@settings(max_examples=250)
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

    with capture_logs():
        asyncio.run(scenario())
