"""Rows that Kafka knows and Postgres does not: told to be gone.

A snapshot does not show what is not there. So what the topics say last of each key is compared
with the tables, and the delete that nobody captured is sent as Debezium would have. Workers,
rebuilds and the compacted topics themselves are then right, and the version guard decides as for
any delete.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import orjson
import psycopg
from confluent_kafka import KafkaError, Message, Producer

from guard.reading import kafka_outages, read_to_end
from guard.steps import Say
from inventory.errors import Outage
from inventory.topics import CHANNEL, CHANNEL_SKU, STOCK
from sql.queries import load_queries

_QUERIES = load_queries()
_SECONDS = 30.0
_ROWS = 20_000

#: By topic: the columns of its key, and the query for the keys that exist.
_TABLES = {
    CHANNEL: (("name",), "existing_channels"),
    CHANNEL_SKU: (("channel", "sku"), "existing_overrides"),
    STOCK: (("sku", "warehouse"), "existing_stock"),
}

_Key: TypeAlias = tuple[str, ...]


class Told(NamedTuple):
    """What a topic says last of a key; `key` and `value` as they are in Kafka."""

    partition: int
    key: bytes
    value: bytes


def bury_ghosts(bootstrap: str, admin: psycopg.Connection, say: Say) -> int:
    """Send the delete of each row that is gone from Postgres and not from Kafka; returns how many.

    Raises:
        Outage: Kafka does not answer.
    """
    total = 0
    for topic, (columns, query) in _TABLES.items():
        say(f"deleted meanwhile: looking in {topic}")
        alive = set(_existing(admin, query))
        ghosts = _suspects(bootstrap, topic, columns, alive)
        if ghosts:
            # Rows that came after the first look are none.
            for key in _existing(admin, query):
                ghosts.pop(key, None)
        _send(bootstrap, topic, list(ghosts.values()))
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


def _send(bootstrap: str, topic: str, ghosts: list[Told]) -> None:
    if not ghosts:
        return
    failures: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error.str())

    now_us = time.time_ns() // 1000
    with kafka_outages(bootstrap):
        producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
        for ghost in ghosts:
            producer.produce(
                topic,
                key=ghost.key,
                value=deletion(ghost.value, now_us),
                # Where the key's other events are, whatever a hash would say.
                partition=ghost.partition,
                on_delivery=delivered,
            )
            producer.poll(0)
        left = producer.flush(_SECONDS)
    if left or failures:
        why = failures[0] if failures else f"{left} not acknowledged"
        raise Outage(f"Kafka at {bootstrap} did not take deletes for {topic}: {why}.")
