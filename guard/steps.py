"""The steps that recoveries are made of; each is safe to do again."""

import time
from collections.abc import Callable, Sequence

import orjson
import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.apply import CONNECTOR, CONNECTOR_FILE, apply, load_connector
from connectors.client import STOPPED, ConnectClient
from guard.names import SLOT
from guard.reading import ends, kafka_outages, unconfirmed
from inventory.errors import ConnectorError, StackError
from inventory.groups import GROUPS
from inventory.topics import CHANNEL, CHANNEL_SKU, HEARTBEAT, STOCK
from sql.queries import load_queries

Say = Callable[[str], None]

_QUERIES = load_queries()
_POLL = 0.25
_SECONDS = 60.0

#: Seconds that a walsender gets to go by itself when its connector has stopped.
_WALSENDER_SECONDS = 5.0

#: Operations of rows that are streamed, and not read by a snapshot.
_STREAMED = frozenset({"c", "u", "d"})


def stop_connector(connect: ConnectClient, say: Say) -> None:
    """Stop it, and wait until its tasks are gone; a connector that is not there is stopped.

    Raises:
        ConnectorError: it does not stop in time, or Connect does not answer.
    """
    if connect.status(CONNECTOR) is None:
        say(f"connector {CONNECTOR}: not there")
        return
    say(f"connector {CONNECTOR}: stopping")
    connect.stop(CONNECTOR)
    deadline = time.monotonic() + _SECONDS
    while True:
        status = connect.status(CONNECTOR)
        if status is None or (status.state == STOPPED and not status.tasks):
            return
        if time.monotonic() > deadline:
            raise ConnectorError(
                f"Connector {CONNECTOR} has not stopped within {_SECONDS:g} s; see the log of "
                "Kafka Connect, and run this again."
            )
        time.sleep(_POLL)


def forget_offsets(connect: ConnectClient, say: Say) -> None:
    """Let the stopped connector begin with a snapshot."""
    if connect.get_config(CONNECTOR) is None:
        return
    say("offsets: forgotten, so that it begins with a snapshot")
    connect.delete_offsets(CONNECTOR)


def drop_slot(admin: psycopg.Connection, say: Say) -> None:
    """Drop the replication slot if it is there.

    Raises:
        StackError: somebody else reads it and does not let go.
    """
    name = {"slot": SLOT}
    started = time.monotonic()
    while True:
        row = admin.execute(_QUERIES["slot_state"], name).fetchone()
        if row is None:
            say(f"slot {SLOT}: gone")
            return
        waited = time.monotonic() - started
        if waited > _SECONDS:
            raise StackError(
                f"The process {row[0]} of Postgres keeps the slot {SLOT}; end the program that "
                "reads it, and run this again."
            )
        try:
            if row[0] is None:
                admin.execute(_QUERIES["drop_slot"], name)
                continue
            if waited > _WALSENDER_SECONDS:
                # A connection that broke without a word is noticed late.
                admin.execute(_QUERIES["end_walsender"], name)
        except psycopg.errors.ObjectInUse:
            say(f"slot {SLOT}: in use again, waiting")
        time.sleep(_POLL)


class Snapshot:
    """The snapshot that a connector without offsets takes: started, and awaited to its end.

    Make it while the connector is stopped. The end is seen in the heartbeat's topic: the snapshot
    only reads its row, and every later change of it is streamed.
    """

    def __init__(self, bootstrap: str, admin: psycopg.Connection) -> None:
        self._bootstrap = bootstrap
        self._before = ends(bootstrap, [STOCK, CHANNEL, CHANNEL_SKU])
        self._beats = ends(bootstrap, [HEARTBEAT])
        row = admin.execute(_QUERIES["count_stock"]).fetchone()
        self._rows = 0 if row is None else int(row[0])

    def take(self, connect: ConnectClient, say: Say) -> None:
        """Let the connector run, and return when its snapshot is in Kafka.

        Raises:
            ConnectorError: the connector or its task failed.
            Outage: Kafka does not answer.
        """
        apply(connect, CONNECTOR, load_connector(CONNECTOR_FILE), say=say)
        with kafka_outages(self._bootstrap):
            consumer = Consumer(
                {
                    "bootstrap.servers": self._bootstrap,
                    "group.id": "stockwire-guard",
                    "enable.auto.commit": False,
                    "log_level": 0,
                }
            )
            try:
                consumer.assign([TopicPartition(*p, end) for p, end in self._beats.items()])
                while not _streams(consumer):
                    self._check(connect)
                    say(f"snapshot: {self._sent():,} records for {self._rows:,} rows of stock")
            finally:
                consumer.close()
        say(f"snapshot: complete, {self._sent():,} records")

    def _sent(self) -> int:
        now = ends(self._bootstrap, [STOCK, CHANNEL, CHANNEL_SKU])
        return sum(now.values()) - sum(self._before.values())

    def _check(self, connect: ConnectClient) -> None:
        status = connect.status(CONNECTOR)
        failure = None if status is None else status.failure
        if failure is not None:
            raise ConnectorError(f"The snapshot failed, {failure} Mend that and run this again.")
        if status is None or status.state == STOPPED:
            raise ConnectorError("Somebody has stopped the connector meanwhile; run this again.")


def _streams(consumer: Consumer) -> bool:
    """Whether a streamed heartbeat arrives within a second."""
    for message in consumer.consume(100, timeout=1.0):
        if message.error() is not None:
            raise KafkaException(message.error())
        value = message.value()
        if value and orjson.loads(value).get("op") in _STREAMED:
            return True
    return False


def wait_for_workers(
    bootstrap: str, say: Say, *, groups: Sequence[str] = GROUPS, timeout: float = 600.0
) -> None:
    """Wait until each app has confirmed all that is in the stock topic now.

    Raises:
        StackError: one does not get there in time.
        Outage: Kafka does not answer.
    """
    goal = {place: end for place, end in ends(bootstrap, [STOCK]).items() if end}
    deadline = time.monotonic() + timeout
    while left := {group: n for group in groups if (n := unconfirmed(bootstrap, group, goal))}:
        waiting = ", ".join(f"{group} {n:,}" for group, n in left.items())
        if time.monotonic() > deadline:
            raise StackError(
                f"The workers have not confirmed everything within {timeout:g} s ({waiting}); see "
                "stockwire doctor, and run this again."
            )
        say(f"workers: not confirmed yet: {waiting}")
        time.sleep(1.0)
    say("workers: have confirmed everything")
