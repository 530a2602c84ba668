"""The exact look at a few SKUs: the one comparison that there is (`audit.compare`)."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from audit.compare import TopicSnapshot, compare
from audit.continuous.pages import Moment, Pages, Versions
from audit.continuous.redis_side import RedisSide
from audit.continuous.screen import Said
from audit.continuous.texts import message_fields
from audit.continuous.told import Place, ToldStore
from audit.projection import read_projection
from audit.report import Difference, Fields, Key
from inventory.policy import ChannelKind, ChannelPolicy


class Case(NamedTuple):
    """A SKU that is somewhere not as Postgres says.

    Attributes:
        versions: in Postgres, while it was looked at; see `versions_of`.
    """

    sku: str
    versions: Versions
    differences: tuple[Difference, ...]


class Verdict(NamedTuple):
    """What was found; `now_us` is when, on Postgres' clock.

    Attributes:
        cases: by SKU.
        moving: SKUs that changed while they were looked at: nothing is known of them.
    """

    now_us: int
    policies: tuple[ChannelPolicy, ...]
    cases: Mapping[str, Case]
    moving: frozenset[str]


class Judge:
    """Every method raises `Outage` and `AuditError` as `Pages`, `RedisSide` and `ToldStore` do."""

    def __init__(self, pages: Pages, redis: RedisSide, store: ToldStore) -> None:
        self._pages = pages
        self._redis = redis
        self._store = store

    def look(self, skus: Iterable[str]) -> Verdict:
        """Compare these SKUs with everything, ghosts included."""
        wanted = sorted(set(skus))
        before = self._pages.of(wanted)
        policies = before.stock.policies
        sellers = [p.name for p in policies if p.kind is ChannelKind.AVAILABILITY]
        projection = read_projection(self._redis.redis, sellers, wanted)
        topics = self._topics(policies, self._store.of(wanted))
        after = self._pages.of(wanted)
        report = compare(before.stock, projection, topics, examples=None)
        found: dict[str, list[Difference]] = {}
        for place in report.places:
            for difference in place.examples:
                found.setdefault(difference.sku, []).append(difference)
        cases: dict[str, Case] = {}
        moving: set[str] = set()
        for sku, differences in found.items():
            versions = versions_of(before, sku)
            if versions_of(after, sku) != versions:
                moving.add(sku)
            else:
                cases[sku] = Case(sku, versions, tuple(differences))
        return Verdict(before.now_us, policies, cases, frozenset(moving))

    def _topics(
        self, policies: Iterable[ChannelPolicy], said: Mapping[str, Said]
    ) -> dict[str, TopicSnapshot]:
        snapshots = {}
        for policy in policies:
            messages: dict[Key, Fields] = {}
            for sku, topics in said.items():
                for warehouse, last in topics.get(policy.topic, {}).items():
                    key = Key(sku, warehouse or None)
                    messages[key] = message_fields(policy.kind, *last)
            kept = kept_since_us(self._store.places(policy.topic))
            snapshots[policy.topic] = TopicSnapshot(
                messages, kept if policy.kind is ChannelKind.MOVEMENT else None
            )
        return snapshots


def versions_of(moment: Moment, sku: str) -> Versions:
    """The versions that a SKU's numbers are made of, and those of what was deleted.

    Without the latter a row that came and went between two looks would not be seen: a difference
    that its deletion has made a moment ago would count as one that has lasted all the time.
    """
    stock = moment.stock
    return moment.deleted.get(sku, frozenset()) | frozenset(
        {
            *(("row", code, level.version) for code, level in stock.levels.get(sku, {}).items()),
            *(("own", name, own.version) for name, own in stock.overrides.get(sku, {}).items()),
            *(("channel", policy.name, policy.version) for policy in stock.policies),
        }
    )


def kept_since_us(places: Mapping[int, Place]) -> int | None:
    """As `audit.compare.TopicSnapshot` has it, of a topic's partitions."""
    return max(
        (at.kept_since_us for at in places.values() if at.kept_since_us is not None), default=None
    )
