"""How a SKU's working state is written in its Redis hash.

The hash `stock:{<sku>}` has one field per warehouse with the row as text, its version first (the
scripts compare it), and in the same way `:override:<channel>` for what the SKU has of its own on a
channel. Beside them are the revision of the whole under `:revision`, the last projection as JSON
under `:published`, under `:partition` the partition that the latest change came from, and under
`:alerted` the version of the last projection whose alerts were published. No warehouse code starts
with a colon (`inventory.names.check_warehouse`).
"""

from collections.abc import Mapping, Sequence

import orjson

from inventory.policy import AS_OF, NO_OVERRIDES, ChannelOverride
from inventory.projection import ChannelState, SkuProjection, SkuState
from inventory.stock import StockLevel
from stockwire_client.contract import Status

REVISION = ":revision"
PUBLISHED = ":published"
PARTITION = ":partition"
ALERTED = ":alerted"
OVERRIDE_PREFIX = ":override:"

_REVISION = REVISION.encode()
_PUBLISHED = PUBLISHED.encode()
_PARTITION = PARTITION.encode()
_ALERTED = ALERTED.encode()
_OVERRIDE_PREFIX = OVERRIDE_PREFIX.encode()
_COLON = ord(":")
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


def encode_override(row: ChannelOverride) -> str:
    """An override as text: its fields in their order, the version first; nothing given is `-`.

    Example: `6 1795235627326925 - 5000 - - 2 - 10 0 0`.
    """
    return " ".join("-" if value is None else str(int(value)) for value in row)


def decode_override(text: bytes) -> ChannelOverride:
    """The inverse of `encode_override`."""
    version, committed_us, *given, ring_fence, blocked, deleted = text.split()
    buffer, share, threshold, hysteresis, per_order, backorder = (
        None if value == b"-" else int(value) for value in given
    )
    return ChannelOverride(
        int(version),
        int(committed_us),
        buffer,
        share,
        threshold,
        hysteresis,
        per_order,
        backorder,
        int(ring_fence),
        blocked == b"1",
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
                and (
                    state.available,
                    state.status,
                    state.previous_available,
                    state.restock_at,
                    state.backorderable,
                    state.order_limit,
                    state.previous_status,
                )
                for channel, state in projection.channels.items()
            },
        )
    ).decode()


def decode_projection(sku: str, text: bytes) -> SkuProjection:
    """The inverse of `encode_projection`."""
    revision, fingerprint, version, committed_us, channels = orjson.loads(text)
    for channel, state in channels.items():
        if state is not None:
            available, status, previous, restock_at, backorderable, limit, previous_status = state
            channels[channel] = ChannelState(
                available,
                _STATUSES[status],
                previous,
                version,
                committed_us,
                restock_at,
                backorderable,
                limit,
                None if previous_status is None else _STATUSES[previous_status],
            )
    return SkuProjection(sku, revision, fingerprint, version, committed_us, channels)


def decode_state(sku: str, flat: Sequence[bytes]) -> SkuState:
    """A SKU's state from its stock hash, given as field, value, field, value, …"""
    revision = 0
    published: SkuProjection | None = None
    partition: int | None = None
    alerted = 0
    levels: dict[str, StockLevel] = {}
    overrides: Mapping[str, ChannelOverride] = NO_OVERRIDES
    fields = iter(flat)
    for name, value in zip(fields, fields, strict=True):
        if name[0] != _COLON:
            levels[name.decode()] = decode_level(value)
        elif name == _REVISION:
            revision = int(value)
        elif name == _PUBLISHED:
            published = decode_projection(sku, value)
        elif name == _PARTITION:
            partition = int(value)
        elif name == _ALERTED:
            alerted = int(value)
        else:
            channel = name.removeprefix(_OVERRIDE_PREFIX).decode()
            overrides = {**overrides, channel: decode_override(value)}
    return SkuState(sku, revision, levels, published, overrides, partition, alerted)


def availability_fields(projection: SkuProjection) -> list[str]:
    """The readers' hash as field, value, field, value, …; empty when no channel lists the SKU.

    What an order may take is only there where it is not simply what is available.
    """
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
            if state.backorderable:
                fields += (f"{channel}:backorderable", str(state.backorderable))
            if state.order_limit != (state.available or state.backorderable):
                fields += (f"{channel}:order_limit", str(state.order_limit))
    if fields:
        fields += (AS_OF, str(projection.committed_us // 1000))
    return fields
