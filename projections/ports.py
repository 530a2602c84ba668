"""What the stream needs of a projection, so that it can also be given one in memory."""

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from inventory.projection import PolicySet, SkuProjection
from inventory.stock import StockLevel

#: SKU → warehouse → the level to write.
Changes: TypeAlias = Mapping[str, Mapping[str, StockLevel]]

#: (topic, partition) → next offset, one above the highest that was applied.
Checkpoint: TypeAlias = Mapping[tuple[str, int], int]


class Projector(Protocol):
    """Keeps what every channel is told of every SKU."""

    async def write(
        self, changes: Changes, policies: PolicySet, checkpoint: Checkpoint
    ) -> list[SkuProjection]:
        """Apply changes, and return what is to be published, in the order of `changes`.

        A level whose version is not higher than the stored one changes nothing, but its SKU's
        current projection is returned all the same. A SKU given without levels is projected
        again if the policies changed.

        Raises:
            Outage: nothing or only a part was written; calling again with the same changes
                completes it.
        """
        ...
