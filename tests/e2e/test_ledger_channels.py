"""Channels of kind level and movement join, leave, fail and heal while stock is sold."""

from uuid import uuid4

import psycopg
import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from bench.load import seed_catalogue
from bench.workload import sku_name
from connectors.topics import ensure_topics
from inventory.groups import channel_group
from inventory.policy import ChannelKind
from inventory.standing import State
from inventory.topics import channel_topic_spec
from stockwire_client.contract import ECHO, SNAPSHOT, SNAPSHOT_LAST, SNAPSHOT_PART
from stockwire_client.names import channel_topic
from stream.standing import read_standings
from tests.booking import assert_adds_up
from tests.e2e.selling import SKUS, WAREHOUSES, selling, whole
from tests.polling import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def admin(stack, settings):
    return AdminClient({"bootstrap.servers": settings.kafka_bootstrap})


def make_topic(settings, name, kind):
    spec = channel_topic_spec(channel_topic(name), kind)
    ensure_topics(settings.kafka_bootstrap, [spec], settings.partitions, say=lambda _: None)


@pytest.fixture
def join(stack, settings, database, admin):
    """Make a channel, and its topic; both are gone after the test."""
    seed_catalogue(settings.conninfo(), SKUS, WAREHOUSES)
    made = []

    def make(kind, warehouses=None, echo_of=None):
        name = f"e2e-{kind}-{uuid4().hex[:8]}"
        make_topic(settings, name, kind)
        made.append(name)
        database.execute(
            "INSERT INTO inventory.channel (name, kind, topic, warehouses, echo_of)"
            " VALUES (%s, %s, %s, %s, %s)",
            [name, kind.value, channel_topic(name), warehouses, echo_of],
        )
        return name

    yield make
    database.execute("DELETE FROM inventory.channel WHERE name = ANY(%s)", [made])
    for name in made:
        eventually(lambda name=name: not read_standings(settings, name))
    known = admin.list_topics(timeout=30).topics
    doomed = [channel_topic(name) for name in made if channel_topic(name) in known]
    if doomed:
        for future in admin.delete_topics(doomed, operation_timeout=30).values():
            future.result()


def states(settings, name):
    return [s.state for s in read_standings(settings, name).values()]


def is_live(settings, name):
    return states(settings, name) == [State.LIVE] * settings.partitions


def messages(settings, name):
    return [m for m in whole(settings, name) if SNAPSHOT_PART not in m.headers]


def levels(settings, name):
    """What the topic says of each row, tombstones included."""
    last = {m.key.decode(): m.json for m in messages(settings, name)}
    return {key: told and (told["on_hand"], told["version"]) for key, told in last.items()}


def rows(database, warehouses=None):
    found = database.execute(
        "SELECT sku, warehouse, on_hand, reserved, version FROM inventory.stock"
    ).fetchall()
    return [row for row in found if warehouses is None or row[1] in warehouses]


def assert_levels(settings, database, name, warehouses=None):
    def check():
        expected = {f"{r[0]}|{r[1]}": (r[2], r[4]) for r in rows(database, warehouses)}
        told = {key: level for key, level in levels(settings, name).items() if level}
        assert told == expected
        return True

    eventually(check)


def assert_books(settings, database, name, warehouses=None):
    def check():
        expected = {(r[0], r[1]): (r[2], r[3]) for r in rows(database, warehouses)}
        assert_adds_up(expected, [m.json for m in messages(settings, name)])
        return True

    eventually(check)


def assert_complete_snapshot(settings, name, known):
    """Every partition has shown the end of all parts, and by then every row that was there."""
    kept = whole(settings, name)
    parts = {f"{part}/{settings.partitions}".encode() for part in range(settings.partitions)}
    shown = set()
    for number in range(settings.partitions):
        mine = [message for message in kept if message.partition == number]
        ends = [n for n, m in enumerate(mine) if m.headers.get(SNAPSHOT) == SNAPSHOT_LAST]
        assert {mine[n].headers[SNAPSHOT_PART] for n in ends} == parts
        snapshot = [m for m in mine[: ends[-1]] if m.headers.get(SNAPSHOT) == b"true"]
        assert not any(SNAPSHOT in m.headers for m in mine[ends[-1] + 1 :]), "then only deltas"
        shown |= {(m.json["sku"], m.json["warehouse"]) for m in snapshot if m.json}
    assert shown >= known


def test_new_channels_start_with_all_there_is_and_miss_nothing(settings, database, join):
    with selling(settings, seed=31):
        known = {(row[0], row[1]) for row in rows(database)}
        level, books = join(ChannelKind.LEVEL), join(ChannelKind.MOVEMENT)
        eventually(lambda: is_live(settings, level) and is_live(settings, books))
        for name in (level, books):
            assert_complete_snapshot(settings, name, known)
        told = len(messages(settings, books))
        eventually(lambda: len(messages(settings, books)) > told + 100)
    assert_levels(settings, database, level)
    assert_books(settings, database, books)


@pytest.mark.parametrize("how", ["deleted", "unwritable"])
def test_a_topic_that_refuses_delays_nobody_and_converges_when_it_heals(
    settings, database, join, admin, tail, sku, how
):
    level, books = join(ChannelKind.LEVEL), join(ChannelKind.MOVEMENT)
    eventually(lambda: is_live(settings, level) and is_live(settings, books))
    with selling(settings, seed=32):
        erp, wms = tail(channel_topic("erp")), tail(channel_topic("wms"))
        break_topics(admin, how, [level, books])
        for name in (level, books):
            eventually(lambda name=name: State.BEHIND in states(settings, name))
        names = [f"{sku}-{n}" for n in range(20)]
        database.cursor().executemany(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'T-1', 5)",
            [[name] for name in names],
        )
        rows_of, skus_of = {f"{name}|T-1".encode() for name in names}, {n.encode() for n in names}
        wms.until(lambda _: rows_of <= {m.key for m in wms.seen})
        erp.until(lambda _: skus_of <= {m.key for m in erp.seen})
        assert State.BEHIND in states(settings, level), "still: the others did not wait for it"
        heal_topics(settings, admin, how, {level: ChannelKind.LEVEL, books: ChannelKind.MOVEMENT})
        eventually(lambda: is_live(settings, level) and is_live(settings, books), timeout=90)
    assert_levels(settings, database, level)
    assert_books(settings, database, books)


def break_topics(admin, how, names):
    topics = [channel_topic(name) for name in names]
    if how == "deleted":
        futures = admin.delete_topics(topics, operation_timeout=30)
    else:
        futures = admin.incremental_alter_configs([_tiny(topic, 1) for topic in topics])
    for future in futures.values():
        future.result()


def heal_topics(settings, admin, how, kinds):
    if how == "deleted":
        for name, kind in kinds.items():
            make_topic(settings, name, kind)
    else:
        resources = [_tiny(channel_topic(name), 2**20) for name in kinds]
        for future in admin.incremental_alter_configs(resources).values():
            future.result()


def _tiny(topic, size):
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    return ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])


def test_a_channel_that_is_removed_leaves_tombstones_and_no_standing(
    settings, database, join, admin
):
    level, books = join(ChannelKind.LEVEL), join(ChannelKind.MOVEMENT)
    eventually(lambda: is_live(settings, level) and is_live(settings, books))
    with selling(settings, seed=33):
        database.execute("DELETE FROM inventory.channel WHERE name = ANY(%s)", [[level, books]])
        eventually(lambda: not states(settings, level) and not states(settings, books))
        groups = {g.group_id for g in admin.list_consumer_groups().result(30).valid}
        assert not groups & {channel_group(level), channel_group(books)}
        told = levels(settings, level)
        assert len(told) >= SKUS * WAREHOUSES
        assert set(told.values()) == {None}
        size = len(messages(settings, books))
    assert set(levels(settings, level).values()) == {None}, "nothing comes after the farewell"
    assert len(messages(settings, books)) == size


def test_edited_warehouses_are_told_and_those_that_left_are_withdrawn(settings, database, join):
    level = join(ChannelKind.LEVEL, ["WH-1", "WH-2"])
    books = join(ChannelKind.MOVEMENT, ["WH-1", "WH-2"])
    eventually(lambda: is_live(settings, level) and is_live(settings, books))
    edit = "UPDATE inventory.channel SET warehouses = %s WHERE name = ANY(%s)"
    with selling(settings, seed=34):
        database.execute(edit, [["WH-3", "WH-2"], [level, books]])
        assert_withdrawn(settings, level, "WH-1")
        database.execute(edit, [["WH-1"], [level, books]])
        assert_withdrawn(settings, level, "WH-2")
    eventually(lambda: is_live(settings, level) and is_live(settings, books))
    assert_levels(settings, database, level, {"WH-1"})

    def adds_up():
        expected = {(r[0], r[1]): (r[2], r[3]) for r in rows(database, {"WH-1"})}
        told = [m.json for m in messages(settings, books)]
        assert_adds_up(expected, [m for m in told if m["warehouse"] == "WH-1"])
        return True

    eventually(adds_up)


def assert_withdrawn(settings, level, warehouse):
    def check():
        told = levels(settings, level)
        return is_live(settings, level) and not any(
            told for key, told in told.items() if key.endswith(f"|{warehouse}")
        )

    eventually(check)


def test_a_channel_is_not_told_of_what_it_has_caused_itself(
    settings, database: psycopg.Connection, join, tail, sku
):
    level = join(ChannelKind.LEVEL, echo_of="the warehouse")
    books = join(ChannelKind.MOVEMENT, echo_of="the books")
    eventually(lambda: is_live(settings, level) and is_live(settings, books))
    levels_told, booked = tail(channel_topic(level)), tail(channel_topic(books))
    database.execute(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'T-1', 5)", [sku]
    )
    for quantity, cause in ((6, "the books"), (7, "the warehouse")):
        with database.transaction():
            database.execute("SELECT set_config('stockwire.caused_by', %s, true)", [cause])
            database.execute(
                "UPDATE inventory.stock SET on_hand = %s WHERE sku = %s", [quantity, sku]
            )
    last = levels_told.until(lambda m: m.key == f"{sku}|T-1".encode() and m.json["on_hand"] == 7)
    assert last.headers[ECHO] == b"true"
    assert sum(ECHO in m.headers for m in levels_told.seen) == 1
    booked.until(lambda m: m.key == sku.encode() and m.json["on_hand"] == 7)
    assert [m["on_hand"] for m in booked.of(sku)] == [5, 7]


def test_a_hot_row_keeps_its_order_while_a_channel_joins(settings, database, join):
    """Compaction keeps what comes last."""
    with selling(settings, seed=35):
        level = join(ChannelKind.LEVEL)
        eventually(lambda: is_live(settings, level))
    hot = sku_name(1).encode()
    by_key = {}
    for message in messages(settings, level):
        if message.key.startswith(hot) and message.json:
            by_key.setdefault(message.key, []).append(message.json["version"])
    for versions in by_key.values():
        assert versions == sorted(versions)
