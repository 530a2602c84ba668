"""What the stream needs of a projection, so that it can also be given one in memory."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeAlias

from inventory.policy import NO_OVERRIDES, ChannelOverride, PolicySet
from inventory.projection import SkuProjection
from inventory.stock import StockLevel


class Replaced(NamedTuple):
    """Versions that are known to be false, and give way to any other one.

    Attributes:
        levels: by warehouse.
        overrides: by channel.
    """

    levels: Mapping[str, int] = MappingProxyType({})
    overrides: Mapping[str, int] = MappingProxyType({})


NOTHING_REPLACED = Replaced()


class SkuChanges(NamedTuple):
    """What is to be written of one SKU.

    Attributes:
        levels: by warehouse.
        overrides: by channel.
        partition: of the stock topic, that these came from; None leaves the one that is kept.
        repair: rows of the stored version are written too, and the SKU is projected anew.
        ghost: the versions of its rows may be none of Postgres', and do not count as applied.
        replaced: a row that is stored in just this version is overwritten by a lower one too.
    """

    levels: Mapping[str, StockLevel]
    overrides: Mapping[str, ChannelOverride] = NO_OVERRIDES
    partition: int | None = None
    repair: bool = False
    ghost: bool = False
    replaced: Replaced = NOTHING_REPLACED


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
    """Keeps what every channel is told of every SKU, and knows how far it has been told that."""

    def begin(self, known: Checkpoint, restoring: Collection[int] = ()) -> None:
        """Take over partitions.

        Args:
            known: how far each of them has been applied by now; where it is missing, nothing was.
            restoring: partition numbers that are noted as being loaded again.
        """
        ...

    async def check(self) -> None:
        """Compare what is kept with what was acknowledged.

        Raises:
            ProjectionLost: less is kept.
            Outage: it cannot be found out now.
        """
        ...

    async def load(self, changes: Changes, checkpoint: Checkpoint) -> None:
        """Apply changes without projecting them: `write` does that with their SKUs later.

        Raises:
            ProjectionLost, Outage: as `write`.
        """
        ...

    async def write(
        self,
        changes: Changes,
        policies: PolicySet,
        checkpoint: Checkpoint,
        partitions: Collection[int] | None = None,
    ) -> Written:
        """Apply changes, and return what is to be published.

        A row whose version is not higher than the stored one changes nothing, unless that one is
        to be replaced, but its SKU's current projection is returned all the same. A SKU given
        without rows is projected again if the policies changed, and one that is to be repaired
        always.

        Args:
            changes: by SKU.
            policies: of all channels that are to be told.
            checkpoint: how far the changes' topics have been applied.
            partitions: leave out SKUs whose changes come from other partitions; None for all.

        Raises:
            ProjectionLost: less is kept than was acknowledged; nothing was projected from that,
                and no checkpoint was raised.
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
