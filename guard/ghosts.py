"""Rows that Kafka knows and Postgres does not: told to be gone.

A snapshot does not show what is not there. So what the topics say last of each key is compared
with the tables, and the delete that nobody captured is sent as Debezium would have. Workers,
rebuilds and the compacted topics themselves are then right, and the version guard decides as for
any delete.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import orjson
import psycopg
from confluent_kafka import KafkaError, Message, Producer
from psycopg import sql

from connectors.signals import send_signal, snapshot_signal
from guard.reading import ends, kafka_outages, read_to_end
from guard.steps import Say
from inventory.errors import Outage, StackError
from inventory.topics import CHANNEL, CHANNEL_SKU, STOCK
from sql.queries import load_queries

_QUERIES = load_queries()
_SECONDS = 30.0
_POLL = 0.25
_ROWS = 20_000

#: Rows that one signal names, and seconds that Debezium gets to read some of them.
_ROWS_OF_SIGNAL, _SIGNAL_SECONDS = 500, 10.0
#: Seconds without any of them until it is given up.
_PATIENCE = 60.0

#: Deletes that wait for Kafka at once; librdkafka's queue takes 100,000.
_MOST_WAITING = 50_000

_Key: TypeAlias = tuple[str, ...]


class _Table(NamedTuple):
    """Where the rows of a topic are: the columns of their key, and the query for those keys."""

    name: str
    columns: tuple[str, ...]
    existing: str


_TABLES = {
    CHANNEL: _Table("inventory.channel", ("name",), "existing_channels"),
    CHANNEL_SKU: _Table("inventory.channel_sku", ("channel", "sku"), "existing_overrides"),
    STOCK: _Table("inventory.stock", ("sku", "warehouse"), "existing_stock"),
}


class _Position(NamedTuple):
    """Where a record is in its topic."""

    partition: int
    offset: int


class Told(NamedTuple):
    """What a topic says last of a key; `key` and `value` as they are in Kafka."""

    partition: int
    key: bytes
    value: bytes


def bury_ghosts(bootstrap: str, admin: psycopg.Connection, say: Say) -> int:
    """Send the delete of each row that is gone from Postgres and not from Kafka; returns how many.

    A row may be inserted again while its delete is on the way. Then the delete, although older,
    may be the last that the topic says of its key: such rows are read again.

    Raises:
        Outage: Kafka does not answer.
        StackError: rows are not read again in time.
    """
    total = 0
    for topic, table in _TABLES.items():
        say(f"deleted meanwhile: looking in {topic}")
        alive = set(_existing(admin, table.existing))
        ghosts = _suspects(bootstrap, topic, table.columns, alive)
        if not ghosts:
            continue
        # Rows that came after the first look are none.
        for key in _existing(admin, table.existing):
            ghosts.pop(key, None)
        buried = _send(bootstrap, topic, ghosts)
        back = buried.keys() & set(_existing(admin, table.existing)) if buried else set()
        if back:
            say(f"deleted meanwhile: {len(back):,} rows are there again, and are read again")
            _read_again(bootstrap, admin, topic, {key: buried[key] for key in back})
        total += len(ghosts)
    say(f"deleted meanwhile: {total:,} rows, told now")
    return total


def deletion(value: bytes, now_us: int) -> bytes:
    """The event that deletes the row that another event has written."""
    envelope: dict[str, Any] = orjson.loads(value)
    source = {
        **envelope["source"],
        "connector": "stockwire-guard",
        "ts_ms": now_us // 1000,
        "ts_us": now_us,
        "ts_ns": now_us * 1000,
        "snapshot": "false",
        "lsn": None,
        "txId": None,
    }
    return orjson.dumps(
        {
            **envelope,
            "op": "d",
            "before": envelope["after"],
            "after": None,
            "source": source,
            "ts_ms": now_us // 1000,
            "ts_us": now_us,
            "ts_ns": now_us * 1000,
        }
    )


def _suspects(
    bootstrap: str, topic: str, columns: tuple[str, ...], alive: set[_Key]
) -> dict[_Key, Told]:
    """What exists, as the topic says, and was not alive when that was looked at."""
    found: dict[_Key, Told] = {}
    for message in read_to_end(bootstrap, topic, {}):
        read = _row(message, columns)
        if read is None:
            continue
        key, exists, told = read
        if key in alive:
            continue
        if exists:
            found[key] = told
        else:
            found.pop(key, None)
    return found


def _row(message: Message, columns: tuple[str, ...]) -> tuple[_Key, bool, Told] | None:
    """The key of an event, and whether its row exists after it; None for what is no event."""
    key, value, partition = message.key(), message.value(), message.partition()
    if not key or not value or partition is None:
        return None
    try:
        fields, envelope = orjson.loads(key), orjson.loads(value)
        row = tuple(fields[column] for column in columns)
        exists = envelope["after"] is not None
    except (ValueError, KeyError, TypeError):
        # The workers have set it aside in the dead-letter topic.
        return None
    return row, exists, Told(partition, key, value)


def _existing(admin: psycopg.Connection, query: str) -> Iterator[_Key]:
    # A cursor of the server's: a million keys come in portions.
    with admin.transaction(), admin.cursor("existing") as cursor:
        cursor.itersize = _ROWS
        cursor.execute(_QUERIES[query])
        for row in cursor:
            yield tuple(row)


def _send(bootstrap: str, topic: str, ghosts: Mapping[_Key, Told]) -> dict[_Key, _Position]:
    """Send the deletes; returns where in the topic they are now."""
    sent: dict[_Key, _Position] = {}
    failures: list[str] = []

    def delivered(key: _Key, error: KafkaError | None, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        if error is not None:
            failures.append(error.str())
        elif partition is not None and offset is not None:
            sent[key] = _Position(partition, offset)

    now_us = time.time_ns() // 1000
    with kafka_outages(bootstrap):
        producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
        for key, ghost in ghosts.items():
            while len(producer) >= _MOST_WAITING:
                producer.poll(_POLL)
            producer.produce(
                topic,
                key=ghost.key,
                value=deletion(ghost.value, now_us),
                # Where the key's other events are, whatever a hash would say.
                partition=ghost.partition,
                on_delivery=partial(delivered, key),
            )
            producer.poll(0)
        left = producer.flush(_SECONDS)
    if left or failures:
        why = failures[0] if failures else f"{left} not acknowledged"
        raise Outage(f"Kafka at {bootstrap} did not take deletes for {topic}: {why}.")
    return sent


def _read_again(
    bootstrap: str, admin: psycopg.Connection, topic: str, buried: dict[_Key, _Position]
) -> None:
    """Have Debezium read these rows; returns when each has an event behind its delete."""
    table = _TABLES[topic]
    deadline = time.monotonic() + _PATIENCE
    left = dict(buried)
    while left:
        if time.monotonic() > deadline:
            raise StackError(
                f"Debezium has read none of {len(left):,} rows of {table.name} again within "
                f"{_PATIENCE:g} s; see stockwire doctor, and run this again."
            )
        some = set(islice(left, _ROWS_OF_SIGNAL))
        send_signal(bootstrap, snapshot_signal({table.name: condition(admin, table.columns, some)}))
        soon = time.monotonic() + _SIGNAL_SECONDS
        while not some.isdisjoint(left) and time.monotonic() < soon:
            for key in _told_after(bootstrap, topic, table.columns, left):
                del left[key]
                deadline = time.monotonic() + _PATIENCE
            time.sleep(_POLL)


def _told_after(
    bootstrap: str, topic: str, columns: tuple[str, ...], positions: Mapping[_Key, _Position]
) -> set[_Key]:
    """The keys of which something stands behind these positions."""
    start = ends(bootstrap, [topic])
    for partition, offset in positions.values():
        start[topic, partition] = min(start[topic, partition], offset)
    found = set()
    for message in read_to_end(bootstrap, topic, start):
        read, offset = _row(message, columns), message.offset()
        if read is None or offset is None or read[0] not in positions:
            continue
        if offset > positions[read[0]].offset:
            found.add(read[0])
    return found


def condition(
    admin: psycopg.Connection | None, columns: tuple[str, ...], keys: Iterable[_Key]
) -> str:
    """An SQL condition for just the rows with these keys."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    rows = (
        sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, key))) for key in sorted(keys)
    )
    return sql.SQL("({}) IN ({})").format(names, sql.SQL(", ").join(rows)).as_string(admin)
