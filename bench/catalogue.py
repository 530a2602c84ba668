"""Stock to work with: seeded, and arrived everywhere before anything is measured."""

from collections.abc import Callable

from audit.postgres import read_latest_change
from bench.backlog import Backlog, Position
from bench.load import seed_catalogue
from inventory.errors import Outage
from inventory.settings import Settings
from projections.reader import AvailabilityReader

_SKUS_AT_ONCE = 50_000


def fill(
    settings: Settings,
    backlog: Backlog,
    skus: int,
    warehouses: int,
    patience: float,
    look: Callable[[Position], None] = lambda _: None,
) -> Position:
    """Seed what is missing, and wait until all that was ever committed is confirmed by the workers.

    A large catalogue is seeded in parts, so that the first are captured while the next are written.

    `look` is called with every position on the way; `patience` is in seconds.

    Raises:
        Outage: a server does not answer, or nothing has moved for `patience` seconds.
    """
    conninfo = settings.conninfo()
    end = backlog.end()
    for first in range(1, skus + 1, _SKUS_AT_ONCE):
        last = min(skus, first + _SKUS_AT_ONCE - 1)
        end += seed_catalogue(conninfo, last, warehouses, first=first)
    backlog.until_drained(end, patience, look)
    # Changes of an earlier run may not have been captured when `end` was asked for.
    latest = read_latest_change(conninfo)
    with AvailabilityReader.from_url(str(settings.redis_url)) as reader:
        if latest is not None and not reader.wait_for(*latest, patience):
            raise Outage(f"The latest change, {latest}, is not in Redis; look at make logs.")
    return backlog.until_drained(end, patience, look)
