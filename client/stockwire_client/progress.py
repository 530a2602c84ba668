"""Whether a partition has shown the whole state that its channel started from."""

import json
import re
from typing import Final

#: Kafka keeps a tombstone, such as the end of a back-fill, at least this long (its default
#: `delete.retention.ms`): a message of a back-fill that is older may have lost its end.
_ENDS_KEPT_MS: Final = 24 * 60 * 60 * 1000
#: A back-fill has many messages; its time need not be exact.
_COARSE_MS: Final = 60 * 1000

_HEX: Final = re.compile("[0-9a-f]{1,256}")


class Progress:
    """Of one partition.

    The state is complete when every part of a back-fill has shown its end. Where none has been at
    work within a day, it is complete when the partition was read to its end once.

    It travels in the metadata of the committed offset: who goes on in the middle of a back-fill
    knows which parts have ended before.
    """

    __slots__ = ("_ends", "_latest", "_parts", "complete", "metadata")

    def __init__(self, metadata: str | None = None, *, complete: bool = False) -> None:
        kept = _kept(metadata)
        self.complete: bool = complete or kept.get("complete") is True
        self._parts = _number(kept.get("parts"))
        self._ends = _number(kept.get("ends"))
        self._latest = _number(kept.get("latest"))
        self.metadata = ""
        """What to commit with the next offset."""
        self._describe()

    def snapshot_message(self, timestamp: int) -> None:
        """A message of a back-fill, written at this time (ms since the epoch), was handled."""
        if not self.complete and timestamp - self._latest >= _COARSE_MS:
            self._latest = timestamp
            self._describe()

    def part_ended(self, part: int, parts: int, timestamp: int) -> None:
        """One part of a back-fill shows its end, written at this time."""
        if self.complete:
            return
        if parts != self._parts:
            self._parts, self._ends = parts, 0
        self._ends |= 1 << part
        self._latest = max(self._latest, timestamp)
        self.complete = self._ends == (1 << parts) - 1
        self._describe()

    def caught_up(self, now: int) -> None:
        """The partition was read to its end, at this time (ms since the epoch)."""
        if not self.complete and now - self._latest > _ENDS_KEPT_MS:
            self.complete = True
            self._describe()

    def _describe(self) -> None:
        if self.complete:
            kept: dict[str, object] = {"complete": True}
        elif self._latest:
            kept = {"latest": self._latest, "parts": self._parts, "ends": f"{self._ends:x}"}
        else:
            self.metadata = ""
            return
        self.metadata = json.dumps({"stockwire_snapshot": kept})


def _kept(metadata: str | None) -> dict[str, object]:
    """What `metadata` says; nothing where it is of someone else's making."""
    try:
        found = json.loads(metadata or "{}")
    except ValueError:
        return {}
    kept = found.get("stockwire_snapshot") if isinstance(found, dict) else None
    return kept if isinstance(kept, dict) else {}


def _number(value: object) -> int:
    if isinstance(value, str):
        return int(value, 16) if _HEX.fullmatch(value) else 0
    return value if isinstance(value, int) else 0
