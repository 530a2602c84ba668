"""Channels join, leave and change their policies while stock is sold."""

import random
from uuid import uuid4

import orjson
import pytest
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from audit.explain import Explainer
from audit.postgres import read_policies
from bench.load import seed_catalogue
from bench.workload import sku_name
from cli.channel_standings import read_channel_standings
from cli.main import app
from cli.standing import State
from projections.marks import MARKS_KEY
from stockwire_client.contract import SNAPSHOT, SNAPSHOT_LAST, SNAPSHOT_PART
from stockwire_client.names import availability_key, channel_topic
from tests.conftest import TEST_ENVIRONMENT
from tests.e2e.selling import (
    SKUS,
    WAREHOUSES,
    assert_no_drift,
    assert_told_what_is_promised,
    promised,
    said,
    selling,
    told,
    whole,
)
from tests.polling import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def stockwire(stack):
    """The command, which must succeed."""

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [*arguments], env={**TEST_ENVIRONMENT, "COLUMNS": "100"})
        assert result.exit_code == code, (arguments, result.output, result.exception)
        return result.output

    return run


@pytest.fixture
def seeded(stack, settings):
    seed_catalogue(settings.conninfo(), SKUS, WAREHOUSES)


@pytest.fixture
def new_channel(seeded, stockwire, settings, database):
    """Make channels of kind availability; they are gone after the test."""
    made = []

    def make(*options):
        name = f"e2e-{uuid4().hex[:8]}"
        made.append(name)
        stockwire("channel-new", name, "--kind", "availability", "--patience", "60", *options)
        return name

    yield make
    left = {policy.name for policy in read_policies(settings.conninfo())}
    for name in made:
        if name in left:
            stockwire("channel-remove", name, "--yes", "--patience", "60")
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    if made:
        topics = [channel_topic(name) for name in made]
        for future in admin.delete_topics(topics, operation_timeout=30).values():
            future.result()


def test_a_new_channel_starts_with_a_complete_snapshot_and_then_deltas(
    new_channel, settings, database
):
    with selling(settings, seed=21):
        before = {sku for (sku,) in database.execute("SELECT DISTINCT sku FROM inventory.stock")}
        channel = new_channel()
        kept = whole(settings, channel)
        parts = {
            (message.partition, message.headers[SNAPSHOT_PART])
            for message in kept
            if message.headers.get(SNAPSHOT) == SNAPSHOT_LAST
        }
        expected = {f"{part}/{settings.partitions}".encode() for part in range(settings.partitions)}
        assert parts == {(n, part) for n in range(settings.partitions) for part in expected}
        snapshot = set()
        for number in range(settings.partitions):
            mine = [message for message in kept if message.partition == number]
            last = max(n for n, m in enumerate(mine) if SNAPSHOT_PART in m.headers)
            snapshot |= {m.key.decode() for m in mine[:last] if SNAPSHOT_PART not in m.headers}
            assert not any(SNAPSHOT in m.headers for m in mine[last + 1 :]), "then only deltas"
        assert snapshot >= before & promised(settings, channel).keys()
        eventually(lambda: any(not m.headers.get(SNAPSHOT) for m in whole(settings, channel)))
    assert_told_what_is_promised(settings, channel)
    assert_no_drift(settings)
    versions = {}
    for message in whole(settings, channel):
        if message.json is not None:
            versions.setdefault(message.key, []).append(message.json["version"])
    for each in versions.values():
        assert each == sorted(each), "nothing stale comes after something newer"


def test_a_channel_that_is_made_twice_changes_nothing(new_channel, stockwire, settings):
    name = new_channel("--warehouses", "WH-2,WH-1")
    (policy,) = (p for p in read_policies(settings.conninfo()) if p.name == name)
    assert policy.warehouses == ("WH-2", "WH-1")
    again = ("channel-new", name, "--kind", "availability", "--warehouses", "WH-2,WH-1")
    assert "nothing has changed" in stockwire(*again)
    assert policy in read_policies(settings.conninfo())
    stockwire("channel-new", name, "--kind", "level", code=1)
    assert read_channel_standings(settings, [policy])[name].state is State.LIVE
    listed = {each["channel"]: each for each in map(orjson.loads, lines(stockwire, "channels"))}
    assert listed[name]["state"] == "live"
    assert listed[name]["warehouses"] == ["WH-2", "WH-1"]
    assert name in stockwire("channels")


def lines(stockwire, *command):
    return stockwire(*command, "--json").splitlines()


def test_a_channel_that_returns_to_its_topic_starts_anew(new_channel, stockwire, settings):
    name = new_channel()
    stockwire("channel-remove", name, "--yes", "--patience", "60")
    assert set(told(settings, name).values()) == {None}
    output = stockwire("channel-new", name, "--kind", "availability", "--patience", "60")
    assert f"{name} is live" in output
    listed = {sku: said(m) for sku, m in told(settings, name).items() if m is not None}
    assert listed == promised(settings, name), "ends of its earlier life do not count"


def test_explain_ends_with_what_the_places_agree_on(
    nobody_heals, new_channel, stockwire, settings, reader
):
    channel, sku = new_channel(), sku_name(3)
    output = stockwire("explain", sku, "--channel", channel)
    assert output.count("agrees") >= 2
    (found,) = map(orjson.loads, lines(stockwire, "explain", sku, "--channel", channel))
    assert (found["agreement"], found["available"]) == (
        "agrees",
        promised(settings, channel)[sku][0],
    )
    right = reader.get(sku, channel).available
    reader._redis.hset(availability_key(sku), channel, right + 1)
    try:
        # The channel is new, and for a second a difference may be on its way.
        output = eventually(lambda: stockwire("explain", sku, "--channel", channel, code=1))
        assert "stockwire audit --once" in output, "it says what to do"
        output = stockwire("explain", sku, "--channel", channel, "--json", code=1)
        differs = orjson.loads(output.splitlines()[0])["redis"]["differs"]
        assert {"field": "available", "expected": right, "found": right + 1} in differs
        assert "differs" in stockwire("explain", sku, code=1)
    finally:
        reader._redis.hset(availability_key(sku), channel, right)


def test_a_removed_channel_leaves_tombstones_and_no_field(new_channel, stockwire, settings, reader):
    stays, goes = new_channel(), new_channel()
    with selling(settings, seed=22):
        stockwire("channel-remove", goes, "--yes", "--patience", "60")
    last = told(settings, goes)
    assert last
    assert set(last.values()) == {None}
    for number in range(1, SKUS + 1):
        fields = reader._redis.hkeys(availability_key(sku_name(number)))
        assert not any(field.decode().partition(":")[0] == goes for field in fields)
    assert goes.encode() not in b"".join(reader._redis.hvals(MARKS_KEY))
    assert_told_what_is_promised(settings, stays)
    assert_no_drift(settings)


def test_a_policy_edit_is_live_for_all_skus(new_channel, settings, database, tail, reader):
    channel = new_channel()
    web = tail(channel_topic(channel))
    hot = sku_name(1)

    def edit(buffer, share, blocked):
        database.execute(
            "UPDATE inventory.channel SET buffer = %s, share = %s, blocked = %s WHERE name = %s",
            [buffer, share, blocked, channel],
        )

    edit(7, "0.5", False)
    expected = promised(settings, channel)
    message = web.until(
        lambda m: m.key == hot.encode() and m.json["available"] == expected[hot][0], timeout=10
    )
    eventually(lambda: (f := reader.get(hot, channel)) and f.available == expected[hot][0])
    assert reader.get(hot, channel).version == message.json["version"]
    assert_told_what_is_promised(settings, channel)
    edit(0, "1", True)
    web.until(lambda m: m.key == hot.encode() and m.json["status"] == "channel_blocked", timeout=10)
    eventually(
        lambda: {m["status"] for m in told(settings, channel).values()} == {"channel_blocked"}
    )
    edit(0, "1", False)
    assert_told_what_is_promised(settings, channel)
    assert reader.get(hot, channel).status == "in_stock"


def test_what_a_sku_has_of_its_own_is_live(new_channel, settings, database, tail, reader):
    mine, other = new_channel(), new_channel()
    tails = {name: tail(channel_topic(name)) for name in (mine, other)}
    sku = sku_name(2)
    before = promised(settings, other)[sku][0]

    def until(channel, field, value):
        tails[channel].until(
            lambda m: m.key == sku.encode() and m.json is not None and m.json[field] == value,
            timeout=10,
        )

    override = (
        "INSERT INTO inventory.channel_sku (channel, sku, ring_fence, max_per_order, blocked)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (channel, sku) DO UPDATE SET ring_fence ="
        " excluded.ring_fence, max_per_order = excluded.max_per_order, blocked = excluded.blocked"
    )
    database.execute(override, [mine, sku, 40, 3, False])
    until(other, "available", before - 40)
    until(mine, "order_limit", 3)
    assert said(told(settings, mine)[sku]) == promised(settings, mine)[sku]
    database.execute(override, [mine, sku, 0, None, True])
    until(mine, "status", "sku_blocked")
    until(other, "available", before)
    eventually(lambda: (f := reader.get(sku, mine)) and f.status == "sku_blocked")
    database.execute(
        "DELETE FROM inventory.channel_sku WHERE channel = %s AND sku = %s", [mine, sku]
    )
    until(mine, "available", before)
    with Explainer.open(
        settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap
    ) as explainer:
        found = explainer.explain(sku, mine, patience=30)
    assert found.agreement == "agrees"
    assert found.account.override is None


def edits(rng, channels):
    """Policy edits without end, as SQL with its parameters."""
    while True:
        channel, sku = rng.choice(channels), sku_name(rng.randint(1, 30))
        warehouses = rng.sample([f"WH-{n}" for n in range(1, WAREHOUSES + 1)], rng.randint(1, 3))
        yield rng.choice(
            [
                ("UPDATE inventory.channel SET buffer = %s WHERE name = %s",
                 [rng.randint(0, 300), channel]),
                ("UPDATE inventory.channel SET share = %s WHERE name = %s",
                 [f"{rng.random():.4f}", channel]),
                ("UPDATE inventory.channel SET blocked = NOT blocked WHERE name = %s", [channel]),
                ("UPDATE inventory.channel SET warehouses = %s, priority = %s WHERE name = %s",
                 [warehouses, rng.randint(1, 9), channel]),
                ("UPDATE inventory.channel SET backorder_limit = %s, max_per_order = %s,"
                 " low_stock_threshold = %s WHERE name = %s",
                 [rng.randint(0, 9), rng.randint(1, 9), rng.randint(0, 900), channel]),
                ("INSERT INTO inventory.channel_sku (channel, sku, ring_fence, blocked)"
                 " VALUES (%s, %s, %s, %s) ON CONFLICT (channel, sku) DO UPDATE"
                 " SET ring_fence = excluded.ring_fence, blocked = excluded.blocked",
                 [channel, sku, rng.randint(0, 500), rng.random() < 0.2]),
                ("DELETE FROM inventory.channel_sku WHERE channel = %s", [channel]),
            ]
        )  # fmt: skip


@pytest.mark.parametrize("seed", [1])
def test_after_twenty_edits_while_selling_nothing_differs(new_channel, settings, database, seed):
    channels = [new_channel(), new_channel()]
    rng = random.Random(seed)
    todo = edits(rng, channels)
    with selling(settings, seed=23, rate=1_000) as run:
        for _ in range(20):
            database.execute(*next(todo))
            enough = run.report.changes + rng.randint(20, 200)
            eventually(lambda enough=enough: run.report.changes >= enough)
    assert_no_drift(settings)
    for channel in channels:
        assert_told_what_is_promised(settings, channel)
