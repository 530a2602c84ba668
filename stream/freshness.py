"""How old the newest change is that this worker is known to have applied, also when nobody sells.

Debezium updates one row of Postgres each second. That row comes through the WAL and Kafka like any
other: all that was committed before it is in Kafka before it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import structlog
from aiokafka import AIOKafkaConsumer

from health import Health
from inventory.topics import HEARTBEAT
from stream.bootstrap import until_kafka_answers

log = structlog.stdlib.get_logger(__name__)

#: The check that this module answers for.
FRESH = "fresh"

_PATIENCE_MS = 500


@dataclass(frozen=True, slots=True)
class Ages:
    """What freshness is made of, each in seconds.

    Attributes:
        heartbeat: since the newest heartbeat known was committed.
        unconfirmed: since the oldest record in hand came into Kafka; 0 without one.
        standing: for which records have waited in Kafka and none was taken.
    """

    heartbeat: float
    unconfirmed: float
    standing: float

    def freshness(self) -> float:
        """Seconds: the oldest of them."""
        return max(self.heartbeat, self.unconfirmed, self.standing)

    def problem(self, limit: float) -> str | None:
        """What keeps a worker from being fresh within `limit` seconds, or None."""
        age = self.freshness()
        if age <= limit:
            return None
        old = f"{age:,.0f} s"
        if age == self.standing:
            what = f"records have waited in Kafka for {old} and none was taken"
        elif age == self.unconfirmed:
            what = f"a change that came into Kafka {old} ago is not applied yet"
        else:
            what = f"the newest heartbeat that Debezium has sent from Postgres is {old} old"
        return f"{what}, and {limit:g} s is the limit"


class Heartbeat:
    """The newest heartbeat that has come."""

    def __init__(self) -> None:
        """None has come."""
        self._committed = 0.0
        self._came = 0.0
        self.known = False

    def take(self, value: bytes | None, monotonic: float) -> None:
        """Take a record of the heartbeat topic, a Debezium envelope; a tombstone says nothing."""
        if value is None:
            return
        try:
            committed = float(orjson.loads(value)["source"]["ts_us"]) / 1e6
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as exc:
            log.warning("heartbeat not understood", reason=repr(exc))
            return
        if committed > self._committed:
            self._committed, self._came = committed, monotonic
            self.known = True

    def age(self, wall: float, monotonic: float) -> float:
        """Seconds; not less than since it came, whatever the clock of Postgres says."""
        return max(wall - self._committed, monotonic - self._came)


class Freshness:
    """Follows the heartbeat, without a group, and says how fresh a worker is.

    Args:
        health: is told the check `fresh` and the fact `freshness_seconds`.
        oldest: when the oldest record that is in hand and not confirmed came into Kafka, in
            seconds since the epoch; None without one.
        still: for how many seconds records have waited and none was taken (`Watchdog.still`).
        limit: seconds that a worker may be behind and call itself ready.
    """

    def __init__(
        self,
        health: Health,
        bootstrap: str,
        client_id: str,
        oldest: Callable[[], float | None],
        still: Callable[[], float],
        limit: float,
    ) -> None:
        self._health = health
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._oldest = oldest
        self._still = still
        self._limit = limit
        self._heartbeat = Heartbeat()
        health.expect(FRESH)

    async def follow(self) -> None:
        """Take heartbeats as they come, until cancelled."""
        consumer = AIOKafkaConsumer(
            HEARTBEAT,
            bootstrap_servers=self._bootstrap,
            client_id=f"{self._client_id}-heartbeat",
            auto_offset_reset="latest",
            enable_auto_commit=False,
        )
        try:
            await until_kafka_answers(self._bootstrap, self._client_id)
            await consumer.start()
            while True:
                fetched = await consumer.getmany(timeout_ms=_PATIENCE_MS)
                for record in (record for part in fetched.values() for record in part):
                    self._heartbeat.take(record.value, time.monotonic())
                self._report()
        finally:
            await consumer.stop()

    def _report(self) -> None:
        if not self._heartbeat.known:
            self._health.problem(FRESH, "no heartbeat of Postgres has come through Debezium yet")
            return
        now, oldest = time.time(), self._oldest()
        ages = Ages(
            self._heartbeat.age(now, time.monotonic()),
            0.0 if oldest is None else now - oldest,
            self._still(),
        )
        self._health.facts(freshness_seconds=round(ages.freshness(), 3))
        self._health.problem(FRESH, ages.problem(self._limit))
