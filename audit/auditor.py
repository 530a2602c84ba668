"""Audits the whole pipeline: Postgres says what is right, everything else is compared with it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Self

from redis import Redis
from redis.exceptions import ResponseError

from audit.compare import compare, is_rejected
from audit.postgres import read_latest_change, read_stock
from audit.projection import departed, read_projection
from audit.report import MAX_EXAMPLES, AuditReport
from audit.topics import TopicReader
from inventory.policy import ChannelKind
from projections.marks import read_marks
from projections.reader import AvailabilityReader

#: Pause between two audits, in seconds: changes in flight need about as long.
_INTERVAL = 0.2


class Auditor:
    """Compares every row of Postgres with Redis and with the channels' topics.

    Topics are read from their beginning once; each further audit reads what is new.

    Args:
        conninfo: libpq URL or keywords of a role that may read the schema `inventory`.
        redis: a client with `decode_responses=False`.
        bootstrap: `host:port[,host:port]` of the Kafka brokers.
        resources: closes the topics' consumers.
    """

    def __init__(self, conninfo: str, redis: Redis, bootstrap: str, resources: ExitStack) -> None:
        self._conninfo = conninfo
        self._redis = redis
        self._bootstrap = bootstrap
        self._resources = resources
        self._readers: dict[tuple[str, ChannelKind], TopicReader] = {}

    @classmethod
    @contextmanager
    def open(cls, conninfo: str, redis_url: str, bootstrap: str) -> Iterator[Self]:
        """An auditor with its own connections, closed at the end."""
        with ExitStack() as resources:
            redis = Redis.from_url(redis_url)
            resources.callback(redis.close)
            yield cls(conninfo, redis, bootstrap, resources)

    def audit(self, examples: int | None = MAX_EXAMPLES) -> AuditReport:
        """Compare everything as it is now; changes in flight count as drift.

        Args:
            examples: so many differences of each place are named at most; None names all.

        Raises:
            Outage: Postgres, Redis or Kafka does not answer.
            AuditError: the schema or a channel's topic is missing.
        """
        stock = read_stock(self._conninfo)
        channels = [p.name for p in stock.policies if p.kind is ChannelKind.AVAILABILITY]
        leaving = departed(read_marks(self._redis), channels)
        projection = read_projection(self._redis, channels)
        # What is being taken out of every SKU is no drift until that has ended.
        strays = {name: of for name, of in projection.strays.items() if name not in leaving}
        projection = replace(projection, strays=strays)
        topics = {p.topic: self._reader(p.topic, p.kind).snapshot() for p in stock.policies}
        return compare(stock, projection, topics, examples)

    def audit_until_settled(self, patience: float) -> AuditReport:
        """Audit again while there is drift, for `patience` seconds; what is left then is real.

        Raises:
            Outage: Postgres, Redis or Kafka does not answer.
            AuditError: the schema or a channel's topic is missing.
        """
        deadline = time.monotonic() + patience
        self._wait_for_latest_change(patience)
        return settle(self.audit, deadline)

    def _wait_for_latest_change(self, timeout: float) -> None:
        """A cheap look first: before the newest row is in Redis an audit tells nothing."""
        latest = read_latest_change(self._conninfo)
        if latest is not None and not is_rejected(latest.sku, latest.warehouse):
            # If it cannot be read, the audit says so.
            with suppress(ValueError, ResponseError):
                AvailabilityReader(self._redis).wait_for(*latest, timeout)

    def _reader(self, topic: str, kind: ChannelKind) -> TopicReader:
        if (topic, kind) not in self._readers:
            reader = TopicReader(self._bootstrap, topic, kind)
            self._readers[topic, kind] = self._resources.enter_context(reader)
        return self._readers[topic, kind]


def settle(audit: Callable[[], AuditReport], deadline: float) -> AuditReport:
    """The first report without drift, or the last one begun before the deadline.

    Args:
        audit: is called at least once.
        deadline: on the clock of `time.monotonic`.
    """
    while (report := audit()).drift and time.monotonic() < deadline:
        time.sleep(min(_INTERVAL, max(0.0, deadline - time.monotonic())))
    return report
