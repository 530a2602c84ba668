"""Has the workers tell their channels of every SKU again, by the ordinary walk."""

from collections.abc import Collection, Mapping
from typing import Any

import orjson
from redis import Redis

from connectors.signals import send_signal, snapshot_signal
from inventory.topics import SCHEMA
from projections.marks import BEHIND, MARKS_KEY, NOT_WHOLE, SET_MARKS, raw_marks
from projections.outage import redis_outages

#: By partition and channel.
Marks = Mapping[int, Mapping[str, str]]


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
    # Workers look at their marks when a policy comes.
    send_signal(bootstrap, snapshot_signal({f"{SCHEMA}.channel": None}))
