"""What a rebuild reads: parts that are independent of each other, each in portions."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from projections.ports import Changes


class Portion(NamedTuple):
    """A few thousand rows.

    Attributes:
        changes: by SKU.
        positions: where to go on after them, by the name of what was read.
        records: how many were read.
        rejected: those of them that the pipeline dead-letters by rule.
    """

    changes: Changes
    positions: Mapping[str, str]
    records: int
    rejected: int = 0


class Source(Protocol):
    """Reads the parts of a plan; it belongs to one process."""

    def portions(self, part: str, start: str | None, end: str) -> Iterator[Portion]:
        """The portions of one part.

        Args:
            part: its name.
            start: where an earlier run has come to; None for the beginning.
            end: as the plan has it.

        Raises:
            Outage: the source does not answer.
        """
        ...

    def close(self) -> None:
        """Give its connections up."""
        ...
