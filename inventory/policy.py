"""What each channel may sell: its policy, and what a SKU has of its own there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import NamedTuple, Self

from inventory.errors import PolicyError

#: `share` is numeric(5,4) in Postgres, so ten-thousandths hold it exactly.
SHARE_UNITS = 10_000

#: The field of the readers' hash that holds the commit time; no channel may take its name.
AS_OF = "as_of"


class ChannelKind(StrEnum):
    """What a channel is told."""

    AVAILABILITY = "availability"
    LEVEL = "level"
    MOVEMENT = "movement"


@dataclass(frozen=True, slots=True)
class ChannelPolicy:
    """A row of `inventory.channel`; quantities in units of the SKU.

    Attributes:
        warehouses: the warehouses it sells from, first the one with the highest priority; None
            means all, by their codes.
        buffer: held back from the channel.
        share: part of what is left that the channel may sell, in ten-thousandths.
        low_stock_threshold: at this many and below, stock is low.
        low_stock_hysteresis: so many more than that end low stock.
        priority: whose ring-fence is filled first when stock is short: the lower number's.
        max_per_order: the most that one order may take; None is no limit.
        backorder_limit: to be sold in advance when nothing is left.
        blocked: the channel sells nothing.
        echo_of: the `caused_by` of what the channel has done itself.
        version: of the row; 0 where it does not matter.
        committed_us: when the row was last changed, in µs since the epoch.
    """

    name: str
    kind: ChannelKind
    topic: str
    warehouses: tuple[str, ...] | None = None
    buffer: int = 0
    share: int = SHARE_UNITS
    low_stock_threshold: int = 5
    low_stock_hysteresis: int = 2
    priority: int = 100
    max_per_order: int | None = None
    backorder_limit: int = 0
    blocked: bool = False
    echo_of: str | None = None
    version: int = 0
    committed_us: int = 0

    def sells_from(self, warehouse: str) -> bool:
        """Whether the channel sells from this warehouse."""
        return self.warehouses is None or warehouse in self.warehouses

    def is_echo(self, caused_by: str | None) -> bool:
        """Whether the channel itself has caused this."""
        return caused_by is not None and caused_by == self.echo_of

    @property
    def rules(self) -> tuple[object, ...]:
        """What decides a number; not the topic, which decides where the number goes."""
        return (
            self.name,
            self.kind.value,
            self.warehouses,
            self.buffer,
            self.share,
            self.low_stock_threshold,
            self.low_stock_hysteresis,
            self.priority,
            self.max_per_order,
            self.backorder_limit,
            self.blocked,
        )


class ChannelOverride(NamedTuple):
    """A row of `inventory.channel_sku`: what a SKU has of its own on a channel.

    None takes the channel's value. A deleted row keeps its version, so that no older one returns.

    Attributes:
        ring_fence: units that no other channel may sell.
        blocked: the SKU is not sold on this channel.
    """

    version: int
    committed_us: int
    buffer: int | None = None
    share: int | None = None
    low_stock_threshold: int | None = None
    low_stock_hysteresis: int | None = None
    max_per_order: int | None = None
    backorder_limit: int | None = None
    ring_fence: int = 0
    blocked: bool = False
    deleted: bool = False


#: Most SKUs have none.
NO_OVERRIDES: Mapping[str, ChannelOverride] = MappingProxyType({})

_REPLACED = (
    "buffer",
    "share",
    "low_stock_threshold",
    "low_stock_hysteresis",
    "max_per_order",
    "backorder_limit",
)


def with_override(policy: ChannelPolicy, override: ChannelOverride | None) -> ChannelPolicy:
    """The policy as it is for a SKU with this override."""
    if override is None or override.deleted:
        return policy
    given = {name: value for name in _REPLACED if (value := getattr(override, name)) is not None}
    return replace(policy, **given) if given else policy


def share_units(share: str | Decimal) -> int:
    """A share from Postgres, 0 to 1 with four decimals, in ten-thousandths.

    Raises:
        PolicyError: it is outside 0 to 1 or has more decimals.
    """
    units = Decimal(share) * SHARE_UNITS
    if not 0 <= units <= SHARE_UNITS or units != int(units):
        raise PolicyError(f"share {share} is not between 0 and 1 with at most four decimals")
    return int(units)


@dataclass(frozen=True, slots=True)
class PolicySet:
    """The policies of all availability channels, prepared once and used for every SKU.

    Attributes:
        policies: in order of their names.
        fingerprint: changes when any rule that decides a number changes; the same in every process.
        departed: the topic of each channel that is gone, by its name: who listed a SKU there is
            still to be told that it no longer does.
        committed_us: when the latest of them was changed, in µs since the epoch.
    """

    policies: tuple[ChannelPolicy, ...]
    fingerprint: str
    departed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    committed_us: int = 0

    @classmethod
    def of(
        cls, policies: Iterable[ChannelPolicy], departed: Mapping[str, str] | None = None
    ) -> Self:
        """Prepare policies; those of other kinds than availability are left out.

        Raises:
            PolicyError: two policies share a name, or a name would collide with a field of the
                readers' hash.
        """
        chosen = sorted(
            (policy for policy in policies if policy.kind is ChannelKind.AVAILABILITY),
            key=lambda policy: policy.name,
        )
        names = [policy.name for policy in chosen]
        for name in names:
            if not name or ":" in name or name == AS_OF:
                raise PolicyError(
                    f"Channel {name!r} cannot be projected: rename it, a name is not empty, "
                    f"holds no colon and is not {AS_OF!r}."
                )
        if len(set(names)) < len(names):
            raise PolicyError(f"Channels {', '.join(names)}: a name is there twice, rename one.")
        return cls(
            tuple(chosen),
            _digest([policy.rules for policy in chosen]),
            MappingProxyType(dict(departed or {})),
            max((policy.committed_us for policy in chosen), default=0),
        )


@lru_cache(maxsize=4096)
def rules_digest(policy: ChannelPolicy) -> str:
    """Changes with every edit of this policy, also one that is taken back; the same everywhere.

    Who was told between an edit and its opposite has to be told again.
    """
    return _digest((policy.rules, policy.version))


def _digest(rules: object) -> str:
    return blake2b(repr(rules).encode(), digest_size=8).hexdigest()
