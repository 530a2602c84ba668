"""Connect killed while it streams what one COPY has written."""

from contextlib import suppress

import orjson
import psutil
import psycopg
from confluent_kafka import Consumer, Message, TopicPartition

from inventory.topics import STOCK
from tests.chaos.fault import Timeline
from tests.chaos.faults.signals import kill
from tests.chaos.world import World
from tests.polling import eventually

_ROWS = 100_000
#: So many records of the transaction are in Kafka when Connect dies.
_SOME = 5_000
_COPY = "COPY inventory.stock (sku, warehouse, on_hand) FROM STDIN"
_AWAY = "DELETE FROM inventory.stock WHERE sku LIKE 'COPY-%'"
_KEY = b'{"sku":"COPY-'
_STREAM_SECONDS = 180.0


def during_copy(world: World, timeline: Timeline) -> None:
    """One transaction writes 100,000 rows by COPY; Connect dies when it has sent some of them."""
    copied_away(world)
    with (
        psycopg.connect(world.settings.conninfo(), autocommit=True) as connection,
        _Records(world) as records,
    ):
        with connection.transaction(), connection.cursor() as cursor:
            with cursor.copy(_COPY) as copy:
                for number in range(_ROWS):
                    copy.write_row((f"COPY-{number:06}", "WH-1", 1))
            # Nothing of a transaction is sent before its commit.
            assert not records.read(), "records of a COPY that was not committed"
        eventually(lambda: records.read() >= _SOME)
        main = world.process("connect")
        # It stands still while it is counted what it has sent.
        main.suspend()
        try:
            eventually(lambda: main.status() == psutil.STATUS_STOPPED)
            sent = records.read()
            kill(world, timeline, "connect")
        finally:
            # Killed, it is not there any more; else it must not stand still for the others.
            with suppress(psutil.NoSuchProcess):
                main.resume()
        timeline.prove(_SOME <= sent < _ROWS, f"{sent:,} of {_ROWS:,} rows of the COPY were sent")
        eventually(lambda: records.read() == _ROWS, timeout=_STREAM_SECONDS)


def copied_away(world: World) -> None:
    """Delete what `during_copy` has put there."""
    with psycopg.connect(world.settings.conninfo(), autocommit=True) as connection:
        connection.execute(_AWAY)


class _Records:
    """The rows of the COPY that the stock topic has, from now on."""

    def __init__(self, world: World) -> None:
        self._keys: set[bytes] = set()
        self._partitions = world.settings.partitions
        self._consumer = Consumer(
            {
                "bootstrap.servers": world.settings.kafka_bootstrap,
                "group.id": "chaos-copy",
                "enable.auto.commit": False,
            }
        )

    def __enter__(self) -> "_Records":
        self._next = self._ends()
        self._consumer.assign([TopicPartition(STOCK, *at) for at in self._next.items()])
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self) -> int:
        """How many different ones there are, up to where the topic ends now."""
        ends = self._ends()

        def read_all() -> bool:
            for message in self._consumer.consume(10_000, timeout=0.1):
                if message.error() is None:
                    self._next[message.partition()] = message.offset() + 1
                    # Deletes of an earlier run may still be on their way.
                    if (key := message.key() or b"").startswith(_KEY) and _is_there(message):
                        self._keys.add(key)
            return all(self._next[number] >= end for number, end in ends.items())

        eventually(read_all)
        return len(self._keys)

    def _ends(self) -> dict[int, int]:
        parts = [TopicPartition(STOCK, number) for number in range(self._partitions)]
        return {
            part.partition: self._consumer.get_watermark_offsets(part, timeout=30)[1]
            for part in parts
        }


def _is_there(message: Message) -> bool:
    value = message.value()
    return value is not None and orjson.loads(value)["after"] is not None
