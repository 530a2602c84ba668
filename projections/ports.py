"""What the stream needs of a projection, so that it can also be given one in memory."""

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol, TypeAlias

from inventory.policy import NO_OVERRIDES, ChannelOverride, PolicySet
from inventory.projection import SkuProjection
from inventory.stock import StockLevel


class SkuChanges(NamedTuple):
    """What is to be written of one SKU.

    Attributes:
        levels: by warehouse.
        overrides: by channel.
        partition: of the stock topic, that these came from; None leaves the one that is kept.
    """

    levels: Mapping[str, StockLevel]
    overrides: Mapping[str, ChannelOverride] = NO_OVERRIDES
    partition: int | None = None


class Written(NamedTuple):
    """What a write leaves to be published.

    Attributes:
        projections: one for each SKU that was given and not left out, in that order.
        partitions: of the stock topic, by SKU; None where it is not known.
        replayed: the SKUs whose projection had been written before.
        unalerted: those of them whose alerts nobody has said to be published.
        overtaken: projections that these take the place of, and of which the same is true.
    """

    projections: list[SkuProjection]
    partitions: Mapping[str, int | None]
    replayed: frozenset[str] = frozenset()
    unalerted: frozenset[str] = frozenset()
    overtaken: tuple[SkuProjection, ...] = ()


#: By SKU.
Changes: TypeAlias = Mapping[str, SkuChanges]

#: (topic, partition) → next offset, one above the highest that was applied.
Checkpoint: TypeAlias = Mapping[tuple[str, int], int]


class Projector(Protocol):
    """Keeps what every channel is told of every SKU."""

    async def write(
        self,
        changes: Changes,
        policies: PolicySet,
        checkpoint: Checkpoint,
        partitions: Collection[int] | None = None,
    ) -> Written:
        """Apply changes, and return what is to be published.

        A row whose version is not higher than the stored one changes nothing, but its SKU's
        current projection is returned all the same. A SKU given without rows is projected again
        if the policies changed.

        Args:
            changes: by SKU.
            policies: of all channels that are to be told.
            checkpoint: how far the changes' topics have been applied.
            partitions: leave out SKUs whose changes come from other partitions; None for all.

        Raises:
            Outage: nothing or only a part was written; calling again with the same changes
                completes it.
        """
        ...

    async def alerted(self, versions: Mapping[str, int]) -> None:
        """Note that the alerts of these projections are published, by SKU and version.

        Raises:
            Outage: calling again completes it.
        """
        ...
