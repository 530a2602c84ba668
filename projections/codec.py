"""How a SKU's working state is written in its Redis hash.

The hash `stock:{<sku>}` has one field per warehouse with the row as text, its version first (the
scripts compare it), the revision of the whole under `:revision`, and the last projection as JSON
under `:published`. No warehouse code starts with a colon (`inventory.names.check_warehouse`).
"""

from collections.abc import Sequence

import orjson

from inventory.availability import Status
from inventory.projection import AS_OF, ChannelState, SkuProjection, SkuState
from inventory.stock import StockLevel

REVISION = ":revision"
PUBLISHED = ":published"

_REVISION = REVISION.encode()
_PUBLISHED = PUBLISHED.encode()
_STATUSES = {status.value: status for status in Status}


def encode_level(level: StockLevel) -> str:
    """A row as text: version, on hand, reserved, safety stock, incoming, its date, commit, deleted.

    Example: `8 12 3 0 50 1795235627326 1795235627326925 0`; a date that is not known is `-`.
    """
    arrives = "-" if level.incoming_at is None else level.incoming_at
    return (
        f"{level.version} {level.on_hand} {level.reserved} {level.safety_stock} {level.incoming} "
        f"{arrives} {level.committed_us} {'1' if level.deleted else '0'}"
    )


def decode_level(text: bytes) -> StockLevel:
    """The inverse of `encode_level`."""
    version, on_hand, reserved, safety, incoming, arrives, committed_us, deleted = text.split()
    return StockLevel(
        int(on_hand),
        int(reserved),
        int(safety),
        int(incoming),
        None if arrives == b"-" else int(arrives),
        int(version),
        int(committed_us),
        deleted == b"1",
    )


def level_version(text: bytes) -> int:
    """The version of a row, without decoding the rest."""
    return int(text.partition(b" ")[0])


def encode_projection(projection: SkuProjection) -> str:
    """A projection as compact JSON; the SKU is the key's."""
    return orjson.dumps(
        (
            projection.revision,
            projection.fingerprint,
            projection.version,
            projection.committed_us,
            {
                channel: state
                and (state.available, state.status, state.previous_available, state.restock_at)
                for channel, state in projection.channels.items()
            },
        )
    ).decode()


def decode_projection(sku: str, text: bytes) -> SkuProjection:
    """The inverse of `encode_projection`."""
    revision, fingerprint, version, committed_us, channels = orjson.loads(text)
    for channel, state in channels.items():
        if state is not None:
            available, status, previous, restock_at = state
            channels[channel] = ChannelState(
                available, _STATUSES[status], previous, version, committed_us, restock_at
            )
    return SkuProjection(sku, revision, fingerprint, version, committed_us, channels)


def decode_state(sku: str, flat: Sequence[bytes]) -> SkuState:
    """A SKU's state from its stock hash, given as field, value, field, value, …"""
    revision = 0
    published: SkuProjection | None = None
    levels: dict[str, StockLevel] = {}
    fields = iter(flat)
    for name, value in zip(fields, fields, strict=True):
        if name == _REVISION:
            revision = int(value)
        elif name == _PUBLISHED:
            published = decode_projection(sku, value)
        else:
            levels[name.decode()] = decode_level(value)
    return SkuState(sku, revision, levels, published)


def availability_fields(projection: SkuProjection) -> list[str]:
    """The readers' hash as field, value, field, value, …; empty when no channel lists the SKU."""
    fields: list[str] = []
    version = str(projection.version)
    for channel, state in projection.channels.items():
        if state is not None:
            fields += (
                channel,
                str(state.available),
                f"{channel}:status",
                state.status,
                f"{channel}:version",
                version,
            )
    if fields:
        fields += (AS_OF, str(projection.committed_us // 1000))
    return fields
