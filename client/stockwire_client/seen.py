"""What was handled already, bounded: which messages are stale or repeated."""

from collections import OrderedDict
from typing import Any

from stockwire_client.messages import Change, Kind


class Seen:
    """Of one partition, the last `limit` keys (states) or ids (movements, alerts).

    A key that is forgotten is the one that has not changed for longest. A stale message is written
    shortly after the newer one (a worker that was replaced repeats its last batches), so it passes
    only if `limit` other keys of the partition have changed in between. Nothing is remembered
    across restarts and rebalances: a handler that writes somewhere durable compares versions there.

    About 200 bytes each for keys of ordinary length.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._versions: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._versions)

    def is_news(self, kind: Kind[Any], change: Change[Any]) -> bool:
        """Whether a change is neither stale nor repeated; one without a version always is news."""
        if change.version is None:
            return True
        last = self._versions.get(_identity(kind, change))
        return last is None or (kind.identity is None and change.version > last)

    def add(self, kind: Kind[Any], change: Change[Any]) -> None:
        """Remember a change that was handled.

        A row that the channel hears of no longer has no version; should it come back, it comes as
        it was.
        """
        if change.version is None:
            self._versions.pop(change.key, None)
            return
        identity = _identity(kind, change)
        self._versions[identity] = change.version
        self._versions.move_to_end(identity)
        if len(self._versions) > self._limit:
            self._versions.popitem(last=False)


def _identity(kind: Kind[Any], change: Change[Any]) -> str:
    value = change.value
    if kind.identity is None or not isinstance(value, dict):
        return change.key
    # A balance has the id of the movement that it includes last: both are to be told.
    return f"{value['kind']}|{value[kind.identity]}"
