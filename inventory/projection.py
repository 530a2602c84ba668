"""From a SKU's rows to what every channel is told of it: pure, so replay and repair share it.

Named tuples where a worker makes many, as in `inventory.stock`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple, Self

from inventory.availability import ChannelKind, ChannelPolicy, Status, availability
from inventory.errors import PolicyError
from inventory.stock import StockLevel

#: The field of the readers' hash that holds the commit time; no channel may take its name.
AS_OF = "as_of"


@dataclass(frozen=True, slots=True)
class PolicySet:
    """The policies of all availability channels, prepared once and used for every SKU.

    Attributes:
        policies: in order of their names.
        fingerprint: changes when any rule that decides a number changes; the same in every process.
    """

    policies: tuple[ChannelPolicy, ...]
    fingerprint: str

    @classmethod
    def of(cls, policies: Iterable[ChannelPolicy]) -> Self:
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
        return cls(tuple(chosen), _fingerprint(chosen))


class ChannelState(NamedTuple):
    """What one channel is told of one SKU.

    Attributes:
        previous_available: what the state before it said; None if the SKU was not listed.
        version: hybrid logical clock in µs; it only rises per SKU (DESIGN guarantee 3).
        committed_us: commit time in µs since the epoch of the SKU's latest change.
        restock_at: in ms since the epoch.
    """

    available: int
    status: Status
    previous_available: int | None
    version: int
    committed_us: int
    restock_at: int | None


class SkuProjection(NamedTuple):
    """What all availability channels are told of one SKU.

    Attributes:
        revision: of the SKU's working state, counted up by every write of it.
        fingerprint: of the policies it was computed with.
        version: the clock of this projection, in µs; also that of its tombstones.
        committed_us: commit time in µs since the epoch of the SKU's latest change.
        channels: by channel name. None is a tombstone: the SKU was listed there and no longer is.
            A channel that came later and never listed it is absent.
    """

    sku: str
    revision: int
    fingerprint: str
    version: int
    committed_us: int
    channels: Mapping[str, ChannelState | None]


class SkuState(NamedTuple):
    """What is kept of one SKU.

    Attributes:
        levels: by warehouse, deleted rows included.
        published: the last projection that was written, None before the first.
    """

    sku: str
    revision: int
    levels: Mapping[str, StockLevel]
    published: SkuProjection | None


def project(state: SkuState, policies: PolicySet) -> SkuProjection:
    """What the channels are told of a SKU in this state.

    The last projection comes back as it is, versions and all, when it already holds this revision
    under these policies: a replay after a crash publishes it again (DESIGN guarantee 2).
    Otherwise the result has the next revision, and a version above the last one.

    Without a last projection nobody knows what a channel was told (Redis may have lost it): one
    that does not list the SKU gets a tombstone.

    Tombstones and unchanged channels are repeated in every projection: whether the last one was
    ever published is not known. A SKU without any rows keeps its revision and has no channels.
    """
    if not state.levels:
        return SkuProjection(state.sku, state.revision, policies.fingerprint, 0, 0, {})
    last = state.published
    if last is not None and is_current(last, state.revision, policies):
        return last
    committed_us = max(level.committed_us for level in state.levels.values())
    version = committed_us if last is None else max(committed_us, last.version + 1)
    told = {} if last is None else last.channels
    channels: dict[str, ChannelState | None] = {}
    for policy in policies.policies:
        now = availability(state.levels, policy)
        before = told.get(policy.name)
        if now is not None:
            channels[policy.name] = ChannelState(
                now.available,
                now.status,
                None if before is None else before.available,
                version,
                committed_us,
                now.restock_at,
            )
        elif last is None or policy.name in told:
            channels[policy.name] = None
    return SkuProjection(
        state.sku, state.revision + 1, policies.fingerprint, version, committed_us, channels
    )


def is_current(projection: SkuProjection, revision: int, policies: PolicySet) -> bool:
    """Whether a projection holds this revision of the SKU, under these policies."""
    return projection.revision == revision and projection.fingerprint == policies.fingerprint


def _fingerprint(policies: Iterable[ChannelPolicy]) -> str:
    # The topic is left out: it decides where a number goes, not the number.
    rules = [
        (
            policy.name,
            None if policy.warehouses is None else sorted(policy.warehouses),
            policy.buffer,
            policy.share,
            policy.low_stock_threshold,
        )
        for policy in policies
    ]
    return blake2b(repr(rules).encode(), digest_size=8).hexdigest()
