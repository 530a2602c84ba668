"""Has the workers tell their channels of every SKU again, by the ordinary walk."""

from collections.abc import Collection, Mapping
from typing import Any

import orjson
from confluent_kafka import KafkaException, Producer
from redis import Redis

from connectors.signals import KEY, snapshot_signal
from inventory.errors import Outage
from inventory.topics import SCHEMA, SIGNALS
from projections.marks import BEHIND, MARKS_KEY, NOT_WHOLE, SET_MARKS
from projections.outage import redis_outages

_TIMEOUT = 15.0

#: By partition and channel.
Marks = Mapping[int, Mapping[str, str]]


def read_marks(redis: Redis) -> dict[int, dict[str, str]]:
    """By which rules each channel was told of every SKU of each partition.

    Raises:
        Outage: Redis does not answer.
    """
    return {number: orjson.loads(text) for number, text in raw_marks(redis).items()}


def raw_marks(redis: Redis) -> dict[int, bytes]:
    """The marks as they are kept."""
    with redis_outages():
        found: dict[Any, Any] = redis.hgetall(MARKS_KEY)
    return {int(number): text for number, text in found.items()}


def being_told(marks: Marks, digests: Mapping[str, str]) -> list[str]:
    """The channels that were not told of every SKU by their rules of now: somebody may be at it."""
    return sorted(
        {name for told in marks.values() for name in told.keys() ^ digests.keys()}
        | {
            name
            for told in marks.values()
            for name, digest in told.items()
            if name in digests and digests[name] != digest
        }
    )


def tell_again(redis: Redis, bootstrap: str, channels: Collection[str]) -> None:
    """Mark channels as behind in every partition, and have the workers look at the marks.

    A worker that sets marks meanwhile, as at the end of a walk, finds these and keeps them.

    Raises:
        Outage: Redis or Kafka does not answer.
    """
    mark_behind = redis.register_script(SET_MARKS)
    for partition, seen in raw_marks(redis).items():
        there: Any = seen
        while there is not None:
            seen = there
            behind = {
                name: BEHIND if name in channels and mark != NOT_WHOLE else mark
                for name, mark in orjson.loads(seen).items()
            }
            with redis_outages():
                there = mark_behind([MARKS_KEY], [partition, orjson.dumps(behind), seen])
    _send_policies_again(bootstrap)


def _send_policies_again(bootstrap: str) -> None:
    """Have Debezium read the policies again: workers look at their marks when one comes."""
    signal = snapshot_signal({f"{SCHEMA}.channel": None})
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    try:
        producer.produce(SIGNALS, key=KEY, value=signal)
        left = producer.flush(_TIMEOUT)
    except KafkaException as exc:
        raise Outage(f"Kafka takes no signal ({exc.args[0].str()}); see that it runs.") from exc
    if left:
        raise Outage(f"Kafka took no signal within {_TIMEOUT:.0f} s; see that it runs.")
