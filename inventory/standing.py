"""Where a channel of kind level or movement stands in a partition of the stock topic."""

from enum import StrEnum
from typing import NamedTuple, Self

import orjson

#: Kafka takes 4 KiB of metadata.
_MOST_REASON = 500


class State(StrEnum):
    """How a channel stands in one partition of the stock topic."""

    LIVE = "live"
    """Told by the live path, from the offset on."""
    BEHIND = "behind"
    """Not told from the offset on."""
    JOINING = "joining"
    """To be told everything, from the beginning on."""
    LEAVING = "leaving"
    """Gone, and to be told so."""
    LEFT = "left"
    """Gone, and told so."""


class Standing(NamedTuple):
    """How a channel stands in one partition of the stock topic.

    Attributes:
        offset: of the stock topic.
        digest: of what the channel is told and where, see `stream.standing.terms`.
        reason: why it is not live.
        since: when this began, in seconds since the epoch.
        topic: id of the channel's topic, empty if it is not known: one of the same name is empty.
    """

    state: State
    offset: int
    digest: str
    reason: str | None = None
    since: float = 0.0
    topic: str = ""

    def metadata(self) -> str:
        """All but the offset, as the metadata of a committed offset."""
        said = self._asdict()
        del said["offset"]
        said["reason"] = self.reason and self.reason[:_MOST_REASON]
        return orjson.dumps(said).decode()

    @classmethod
    def read(cls, offset: int, metadata: str | None) -> Self | None:
        """The standing of a committed offset; None if it is not of our making (a reset by hand)."""
        try:
            said = orjson.loads(metadata or "")
            return cls(
                State(said["state"]),
                offset,
                str(said["digest"]),
                said.get("reason"),
                float(said.get("since", 0.0)),
                str(said.get("topic", "")),
            )
        except (ValueError, KeyError, TypeError):
            return None
