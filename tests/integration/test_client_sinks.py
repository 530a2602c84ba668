"""The example sinks as processes: killed, started again, given everything twice."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from contextlib import closing, contextmanager
from pathlib import Path

import orjson
import psycopg
import pytest

from inventory.policy import ChannelKind
from stockwire_client import LEVEL, MOVEMENT
from stockwire_client.messages import Record
from tests.client_fakes import availability, movement, typed
from tests.database import fresh_database
from tests.integration.client_channel import fresh_channel, wait_until_read
from tests.polling import DEADLINE, eventually
from tests.unit.test_client_messages import level

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "client" / "examples"


@contextmanager
def sink(name, channel, *options):
    """A running sink; it is killed at the end if it still runs."""
    process = subprocess.Popen(
        [
            sys.executable,
            str(EXAMPLES / name),
            *("--bootstrap", channel.bootstrap),
            *("--channel", channel.name),
            *("--group", channel.group),
            *map(str, options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def end(process, number):
    """Stop a sink; it ends by itself and says nothing."""
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_web_cache(stack, settings, tmp_path, number):
    database = tmp_path / "cache.db"
    with fresh_channel(settings, ChannelKind.AVAILABILITY) as channel:
        for n in range(20):
            channel.send(f"S{n}".encode(), availability(f"S{n}", 5, available=n), typed())
        channel.send(b"S1", None, [*typed(), ("ce_id", b"S1|6")])
        channel.send(b"S2", availability("S2", 7, available=70), typed())
        channel.send(b"S2", b"{", typed())
        with sink("web_cache.py", channel, "--database", database) as process:
            wait_until_read(channel)
            said = end(process, number)
        assert "the cache is complete" in said
        assert "passed over: Invalid JSON" in said
        assert channel.left() == 0
        # After a restart the subscription has forgotten all versions: the cache itself has not.
        channel.send(b"S2", availability("S2", 6, available=60), typed())
        channel.send(b"S1", availability("S1", 5, available=1), typed())
        with sink("web_cache.py", channel, "--database", database) as process:
            wait_until_read(channel)
            end(process, number)
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT sku, available, version FROM availability WHERE listed"
        ).fetchall()
    expected = {(f"S{n}", n, 5) for n in range(20) if n not in (1, 2)} | {("S2", 70, 7)}
    assert set(rows) == expected


def test_wms_files(stack, settings, tmp_path):
    long = "L" * 199 + "/"
    with fresh_channel(settings, ChannelKind.LEVEL) as channel:
        channel.send(b"A|W1", level(version=2, on_hand=1))
        channel.send(b"A|W1", level(version=4, on_hand=2))
        channel.send(f"{long}|W1".encode(), level(long, version=6))
        channel.send(b"A|W1", None, [("ce_id", b"A|W1|9")])
        channel.send(b"A|W2", level(warehouse="W2", version=8), [("stockwire_echo", b"true")])
        with sink("wms_files.py", channel, "--folder", tmp_path / "in") as process:
            wait_until_read(channel)
            end(process, signal.SIGINT)
        channel.group += "-again"
        with sink("wms_files.py", channel, "--folder", tmp_path / "in") as process:
            wait_until_read(channel)
            end(process, signal.SIGTERM)
    files = sorted((tmp_path / "in").iterdir())
    told = [json.loads(path.read_text()) for path in files]
    assert [(one["sku"], one["version"], one["deleted"]) for one in told] == [
        ("A", 2, False),
        ("A", 4, False),
        (long, 6, False),
        ("A", 9, True),
    ]
    assert not [path for path in files if path.name.startswith(".")]


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import wms_files

    def full(descriptor):
        assert list(tmp_path.glob("*.json")) == []
        raise OSError("no space left on device")

    monkeypatch.setattr(wms_files.os, "fsync", full)
    change = LEVEL.read(Record("t", 0, 0, b"A|W1", level(), []))
    with pytest.raises(OSError, match="no space left"):
        wms_files.drop(tmp_path, change)
    assert list(tmp_path.glob("*.json")) == []


def history(rng, skus, length):
    """Movements of some rows with the quantities that they lead to, and balances in between."""
    on_hand, last = defaultdict(int), {}
    told = []
    for n in range(length):
        sku, version = rng.choice(skus), 2 * (n + 1)
        delta = rng.randint(-on_hand[sku], 5)
        on_hand[sku] += delta
        moved = {
            "delta_on_hand": delta,
            "on_hand": on_hand[sku],
            "previous_version": last.get(sku),
        }
        told.append((sku, movement(sku, version, **moved)))
        last[sku] = version
        if rng.random() < 0.1:
            told.append((sku, movement(sku, version, "balance", on_hand=on_hand[sku])))
    return told, dict(on_hand)


def with_gaps(rng, told):
    """Some movements are lost, each before a balance of its row: the balance makes up for them."""
    balanced = {}
    for place, (sku, value) in enumerate(told):
        if orjson.loads(value)["kind"] == "balance":
            balanced[sku] = place
    return [
        (sku, value)
        for place, (sku, value) in enumerate(told)
        if place >= balanced.get(sku, 0) or rng.random() < 0.8
    ]


def as_records(told):
    return [(sku.encode(), value) for sku, value in told]


def test_erp_table_counts_each_movement_once(stack, settings):
    """Killed at random and given batches again: sums are right, each movement is booked once."""
    rng = random.Random(5)
    told, expected = history(rng, [f"S{n}" for n in range(8)], 600)
    movements = {
        message["movement_id"]
        for message in (orjson.loads(value) for _, value in told)
        if message["kind"] == "movement"
    }
    with (
        fresh_database(settings) as dsn,
        fresh_channel(settings, ChannelKind.MOVEMENT) as channel,
        psycopg.connect(dsn, autocommit=True) as database,
    ):

        def booked():
            database.execute("SET search_path TO public")
            if database.execute("SELECT to_regclass('erp_movement')").fetchone()[0] is None:
                return 0
            return database.execute("SELECT count(*) FROM erp_movement").fetchone()[0]

        position = 0
        while position < len(told):
            # A worker that was replaced writes its last movements once more.
            again = max(0, position - rng.randint(0, 60))
            position = min(len(told), position + rng.randint(150, 250))
            channel.send_many(as_records(told[again:position]))
            before = booked()
            with sink("erp_table.py", channel, "--dsn", dsn) as process:
                eventually(lambda before=before: booked() > before)
                process.kill()
        with sink("erp_table.py", channel, "--dsn", dsn) as process:
            wait_until_read(channel)
            end(process, signal.SIGINT)
        rows = database.execute("SELECT sku, on_hand FROM erp_stock").fetchall()
        ids = database.execute("SELECT movement_id FROM erp_movement").fetchall()
    assert dict(rows) == expected
    assert {one for (one,) in ids} == movements
    assert len(ids) == len(movements)


def test_erp_table_does_not_depend_on_the_order(stack, settings, monkeypatch):
    """Any order of movements and balances, from anywhere in the history, gives the same sums.

    Also where movements are missing, as long as a balance comes after them.
    """
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import erp_table

    rng = random.Random(6)
    with fresh_database(settings) as dsn, psycopg.connect(dsn, autocommit=True) as database:
        database.execute(erp_table.SCHEMA)
        for _ in range(40):
            database.execute("TRUNCATE erp_movement, erp_stock")
            told, expected = history(rng, ["A", "B"], 40)
            told = with_gaps(rng, told[rng.randint(0, 5) :])
            expected = {sku: expected[sku] for sku, _ in told}
            told += rng.sample(told, 5)
            rng.shuffle(told)
            for sku, value in told:
                erp_table.book(database, MOVEMENT.read(Record("t", 0, 0, sku.encode(), value, [])))
            rows = database.execute("SELECT sku, on_hand FROM erp_stock").fetchall()
            assert dict(rows) == expected


def test_a_sink_says_what_stops_it(stack, settings):
    with fresh_database(settings) as dsn, fresh_channel(settings, ChannelKind.MOVEMENT) as channel:
        channel.send(b"A", b"{")
        with sink("erp_table.py", channel, "--dsn", dsn) as process:
            said, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "Message 0 of" in said
    assert "does not follow the contract" in said
