"""What an audit has found."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

#: Examples in a report at most; the numbers count all.
MAX_EXAMPLES = 20

Fields: TypeAlias = Mapping[str, object]


class Key(NamedTuple):
    """What is compared as one: a stock row, or a SKU when `warehouse` is None.

    Of what a SKU has of its own on a channel, `warehouse` is the channel's name.
    """

    sku: str
    warehouse: str | None = None


def unreadable(reason: Exception) -> Fields:
    """What is found where something is that cannot be read."""
    return {"unreadable": str(reason) or type(reason).__name__}


class Difference(NamedTuple):
    """One row or SKU that a place holds otherwise than Postgres says.

    Attributes:
        place: as in `PlaceReport.place`.
        expected: the fields that differ, as they should be; None if the key should not be there.
        found: the same fields as they are; None if the key is not there.
    """

    place: str
    sku: str
    warehouse: str | None
    expected: Fields | None
    found: Fields | None


class PlaceReport(NamedTuple):
    """One place compared.

    Attributes:
        place: `redis stock`, `redis overrides`, `redis <channel>` or `topic <name>`; of what
            readers find under the name of no channel `redis <name>`.
        compared: rows or SKUs that should be there, and those that are there and should not be.
        drift: how many of them are not as they should be.
        expired: rows of a ledger that changed last before its topic's retention; not compared.
        examples: the first of the differences, at most `MAX_EXAMPLES`.
    """

    place: str
    compared: int
    drift: int
    expired: int
    examples: tuple[Difference, ...]


class AuditReport(NamedTuple):
    """The verdict over all places.

    Attributes:
        rows: stock rows in Postgres that were compared.
        skus: SKUs that have such a row.
        rejected: rows that the pipeline dead-letters by rule (`inventory.names`); not compared.
    """

    rows: int
    skus: int
    rejected: int
    places: tuple[PlaceReport, ...]

    @property
    def drift(self) -> int:
        """Differences in all places; one row can differ in several."""
        return sum(place.drift for place in self.places)

    @property
    def verdict(self) -> str:
        """The audit in a few words, e.g. `drift: 0 of 15,000`."""
        return f"drift: {self.drift:,} of {self.rows:,}"

    def examples(self) -> list[Difference]:
        """At most `MAX_EXAMPLES` differences, some of each place that has any."""
        examples: list[Difference] = []
        for n in range(MAX_EXAMPLES):
            examples += [place.examples[n] for place in self.places if len(place.examples) > n]
        return examples[:MAX_EXAMPLES]
