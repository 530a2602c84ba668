"""Ends a worker that has stalled, so that it is started again.

Faust and aiokafka are known to stop in silence: the process lives, its partitions are held, and
nothing moves. A thread of its own sees that, through a Kafka client of its own, whatever has become
of the worker's.
"""

import asyncio
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any, NoReturn, Protocol

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from health import Health
from stream.stall import Judge, Look, Partition, pace

log = structlog.stdlib.get_logger(__name__)

#: The exit code of a worker that has ended itself: EX_TEMPFAIL, "try again".
STALLED = 75

#: Checks that the watchdog and `pulse` answer for.
WATCHDOG, ASSIGNED = "watchdog", "assigned"

_ANSWER_SECONDS = 2.0
_LAST_WORDS_SECONDS = 5.0
_PULSE_SECONDS = 0.2

#: The partitions that a worker holds; None in the middle of a rebalance.
Held = Callable[[], Collection[Partition] | None]


class Offsets(Protocol):
    """Where the watchdog asks how far the topics go."""

    def read(
        self, held: Collection[Partition], confirmed: Mapping[Partition, int]
    ) -> tuple[dict[Partition, int], dict[Partition, int]] | None:
        """The positions and the ends of these partitions; None if Kafka does not answer.

        A partition of which nothing is confirmed yet is where its group has committed.
        """
        ...

    def close(self) -> None:
        """Leave the brokers."""
        ...


class KafkaOffsets:
    """Offsets from a client that never joins the group."""

    def __init__(self, bootstrap: str, client_id: str, group: str) -> None:
        """Ask these brokers about the offsets that `group` has committed."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": f"{client_id}-watchdog",
                "group.id": group,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )

    def read(
        self, held: Collection[Partition], confirmed: Mapping[Partition, int]
    ) -> tuple[dict[Partition, int], dict[Partition, int]] | None:
        """See `Offsets.read`."""
        positions, ends = {p: confirmed[p] for p in held if p in confirmed}, {}
        unknown = [TopicPartition(*p) for p in held if p not in positions]
        try:
            if not held:
                self._consumer.list_topics(timeout=_ANSWER_SECONDS)
            if unknown:
                for tp in self._consumer.committed(unknown, _ANSWER_SECONDS):
                    positions[tp.topic, tp.partition] = tp.offset
            for partition in held:
                low, ends[partition] = self._consumer.get_watermark_offsets(
                    TopicPartition(*partition), _ANSWER_SECONDS
                )
                # What was deleted, or never committed (a negative offset), is not waited for.
                positions[partition] = max(positions[partition], low)
        except KafkaException:
            return None
        return positions, ends

    def close(self) -> None:
        """See `Offsets.close`."""
        self._consumer.close()


class Watchdog:
    """Watches one worker from a thread; made in the worker's event loop.

    Args:
        health: its loop is watched (`pulse`), and it is told the facts `lag` and `still_seconds`.
        held: what the worker holds.
        confirmed: up to which offset each of that is confirmed (`Inbox.confirmed`).
        waiting: whether the worker waits for an outage to end.
        offsets: who knows the ends of the topics; closed with the watchdog.
        limit: seconds that a worker may have lag and not move.

    Attributes:
        still: seconds for which a partition has had lag and has not moved.
    """

    def __init__(
        self,
        health: Health,
        held: Held,
        confirmed: Callable[[], Mapping[Partition, int]],
        waiting: Callable[[], bool],
        offsets: Offsets,
        limit: float,
    ) -> None:
        self._health = health
        self._held = held
        self._confirmed = confirmed
        self._waiting = waiting
        self._offsets = offsets
        self._limit = limit
        self._judge = Judge(limit)
        self._pace = pace(limit)
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self._over = threading.Event()
        self.still = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch for as long as the context is entered."""
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            # Not waited for: it may be asking a Kafka that does not answer.
            self._ended.set()

    def expect_end(self) -> None:
        """From now on the worker stops; should that take longer than the limit, end it."""
        threading.Thread(target=self._see_the_end, name="watchdog-end", daemon=True).start()

    def over(self) -> None:
        """The worker has stopped."""
        self._over.set()

    def _see_the_end(self) -> None:
        # Nothing is lost: what is not confirmed was not committed.
        if not self._over.wait(self._limit):
            self._end(f"it has been stopping for {self._limit:g} s and does not end")

    def _watch(self) -> None:
        try:
            with closing(self._offsets):
                while not self._ended.wait(self._pace):
                    reason = self._judge.see(self._look())
                    self.still = self._judge.still()
                    self._health.facts(still_seconds=round(self.still, 1))
                    if reason is not None and not self._ended.is_set():
                        self._end(reason)
        except BaseException as exc:
            self._health.problem(WATCHDOG, f"the watchdog has ended: {exc!r}")
            raise

    def _look(self) -> Look:
        held = self._held()
        read = self._offsets.read(held or (), self._confirmed())
        positions, ends = read or ({}, {})
        look = Look(
            at=time.monotonic(),
            turned=self._health.turned,
            answers=read is not None,
            waiting=self._waiting(),
            assigned=held is not None,
            positions=positions,
            ends=ends,
        )
        if look.answers:
            self._health.facts(lag=sum(look.lag().values()))
        return look

    def _end(self, reason: str) -> NoReturn:
        # Should the log be what hangs: the process ends all the same.
        faulthandler.dump_traceback_later(_LAST_WORDS_SECONDS, exit=True)
        verdict = self._health.ready()
        log.critical(
            "worker stalled", reason=reason, not_ready=verdict.reasons, facts=verdict.facts
        )
        print(_tasks(self._loop), file=sys.stderr, flush=True)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(STALLED)


async def pulse(health: Health, held: Held) -> None:
    """Turn, and say which partitions are held, until cancelled."""
    health.expect(ASSIGNED)
    while True:
        health.turn()
        partitions = held()
        if partitions is None:
            health.problem(ASSIGNED, "its partitions are being handed out")
        else:
            health.problem(ASSIGNED, None)
            health.facts(partitions=sorted({number for _, number in partitions}))
        await asyncio.sleep(_PULSE_SECONDS)


def _tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Where each task of the loop waits; no thread's stack shows a coroutine that does."""
    lines: list[str] = []
    for task in sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()):
        lines.append(f"Task {task.get_name()} waits in:\n")
        for frame in _frames(task.get_coro()):
            lines += traceback.format_list(traceback.extract_stack(frame, limit=1))
    return "".join(lines)


def _frames(waiting: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine, the outermost first."""
    while waiting is not None:
        for kind in ("cr", "gi", "ag"):
            if hasattr(waiting, f"{kind}_frame"):
                frame = getattr(waiting, f"{kind}_frame")
                if frame is not None:
                    yield frame
                waiting = getattr(waiting, f"{kind}_await", getattr(waiting, "gi_yieldfrom", None))
                break
        else:
            return
