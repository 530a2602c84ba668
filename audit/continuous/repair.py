"""Heals what one audit has found, for a person who asks for it."""

from contextlib import closing

from redis import Redis

from audit.auditor import Auditor
from audit.continuous.heal import MOST, Healer
from audit.continuous.judge import Case
from audit.continuous.pages import Pages
from audit.report import Difference
from inventory.settings import Settings


def repair(settings: Settings, auditor: Auditor) -> int:
    """Compare everything once more, and have what differs sent again; how many SKUs that is.

    Raises:
        Outage: a server does not answer, or Postgres does not say which versions it has drawn.
        AuditError: the schema or a channel's topic is missing, or Postgres refuses.
    """
    report = auditor.audit(examples=None)
    found: dict[str, list[Difference]] = {}
    for place in report.places:
        for difference in place.examples:
            found.setdefault(difference.sku, []).append(difference)
    with closing(Pages(settings.conninfo())) as pages:
        redis = Redis.from_url(str(settings.redis_url))
        with closing(redis):
            healer = Healer(settings.kafka_bootstrap, pages, redis, settings.partitions)
            policies = pages.policies()
            skus = [*found]
            for start in range(0, len(skus), MOST):
                some = skus[start : start + MOST]
                cases = [Case(sku, frozenset(), tuple(found[sku])) for sku in some]
                healer.heal(cases, policies)
    return len(skus)
