"""How a SKU's working state is written in its Redis hash.

The hash `stock:{<sku>}` has one field per warehouse with the row as text, its version first (the
scripts compare it), and in the same way `:override:<channel>` for what the SKU has of its own on a
channel. Beside them are the revision of the whole under `:revision`, the last projection as JSON
under `:published`, under `:partition` the partition that the latest change came from, and under
`:alerted` the version of the last projection whose alerts were published. No warehouse code starts
with a colon (`inventory.names.check_warehouse`).
"""

import re
from collections.abc import Mapping, Sequence

import orjson

from inventory.policy import AS_OF, NO_OVERRIDES, SHARE_UNITS, ChannelOverride
from inventory.projection import ChannelState, SkuProjection, SkuState
from inventory.stock import StockLevel
from projections.fields import (
    ALERTED_FIELD,
    OVERRIDE_FIELD_PREFIX,
    OVERRIDE_PREFIX,
    PARTITION_FIELD,
    PUBLISHED_FIELD,
    REVISION_FIELD,
    UNREADABLE,
)
from stockwire_client.contract import Status

_COLON = ord(":")

#: A longer text is no row; `apply.lua` has the same limit, and the same two forms.
MAX_ROW = 200
_LEVEL = re.compile(rb"0*(\d+)(?: -?\d+){4} -?\d* \d+ [01]")
_OVERRIDE = re.compile(rb"0*(\d+) \d+(?: [-\d]\d*){6} \d+ [01] [01]")

#: Far more than `connectors.envelope` lets through; what lies beyond cannot be written into a
#: message, nor can later times.
_WHOLE = 2**53
_END_MS = 253_402_300_800_000
_END_US = _END_MS * 1000

#: Of a number that fits 64 bits.
_COUNT_DIGITS = 18
_ZERO = ord("0")

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
    """The inverse of `encode_level`.

    Raises:
        ValueError: nobody of ours has written this.
    """
    version, *numbers, arrives, committed, deleted = text.split()
    on_hand, reserved, safety, incoming = map(int, numbers)
    committed_us = int(committed)
    incoming_at = None if arrives == b"-" else int(arrives)
    if (
        not -_WHOLE <= on_hand < _WHOLE
        or not -_WHOLE <= reserved < _WHOLE
        or not -_WHOLE <= safety < _WHOLE
        or not -_WHOLE <= incoming < _WHOLE
        or not 0 <= committed_us < _END_US
        or (incoming_at is not None and not 0 <= incoming_at < _END_MS)
    ):
        raise ValueError("a quantity or a time that no row can have")
    return StockLevel(
        on_hand,
        reserved,
        safety,
        incoming,
        incoming_at,
        int(version),
        committed_us,
        deleted == b"1",
    )


def encode_override(row: ChannelOverride) -> str:
    """An override as text: its fields in their order, the version first; nothing given is `-`.

    Example: `6 1795235627326925 - 5000 - - 2 - 10 0 0`.
    """
    return " ".join("-" if value is None else str(int(value)) for value in row)


def decode_override(text: bytes) -> ChannelOverride:
    """The inverse of `encode_override`.

    Raises:
        ValueError: nobody of ours has written this.
    """
    version, committed, *given, ring_fence, blocked, deleted = text.split()
    own = [None if value == b"-" else int(value) for value in given]
    buffer, share, threshold, hysteresis, per_order, backorder = own
    committed_us, fence = int(committed), int(ring_fence)
    if (
        any(value is not None and not 0 <= value < _WHOLE for value in (*own, fence))
        or (share is not None and share > SHARE_UNITS)
        or not 0 <= committed_us < _END_US
    ):
        raise ValueError("a rule or a time that no override can have")
    return ChannelOverride(
        int(version),
        committed_us,
        buffer,
        share,
        threshold,
        hysteresis,
        per_order,
        backorder,
        fence,
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
    """The inverse of `encode_projection`.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: nobody of ours has written this.
    """
    revision, fingerprint, version, committed_us, channels = orjson.loads(text)
    for number in (revision, version, committed_us):
        if type(number) is not int or not 0 <= number < _END_US:
            raise ValueError("a version or a time that no projection can have")
    for channel, state in channels.items():
        if state is not None:
            available, status, previous, restock_at, backorderable, limit, previous_status = state
            if restock_at is not None and not 0 <= int(restock_at) < _END_MS:
                raise ValueError("a time that no projection can have")
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
    """A SKU's state from its stock hash, given as field, value, field, value, …

    What cannot be read is named in `SkuState.unreadable`, which says what counts instead.
    """
    revision = 0
    published: SkuProjection | None = None
    partition: int | None = None
    alerted = 0
    levels: dict[str, StockLevel] = {}
    overrides: Mapping[str, ChannelOverride] = NO_OVERRIDES
    unreadable: list[str] = []
    fields = iter(flat)
    for name, value in zip(fields, fields, strict=True):
        try:
            if name[0] != _COLON:
                levels[name.decode()] = decode_level(value)
            elif name == REVISION_FIELD:
                revision = _count(value)
            elif name == PUBLISHED_FIELD:
                published = decode_projection(sku, value)
            elif name == PARTITION_FIELD:
                partition = _count(value)
            elif name == ALERTED_FIELD:
                alerted = _count(value)
            else:
                overrides = {**overrides, _channel(name): decode_override(value)}
        except UNREADABLE:
            text = name.decode(errors="replace")
            unreadable.append(text)
            if name.startswith(OVERRIDE_FIELD_PREFIX):
                stored = ChannelOverride(_stored_version(_OVERRIDE, value), 0, blocked=True)
                overrides = {**overrides, text.removeprefix(OVERRIDE_PREFIX): stored}
            elif name[:1] != b":":
                version = _stored_version(_LEVEL, value)
                levels[text] = StockLevel(0, 0, 0, 0, None, version, 0, deleted=True)
    return SkuState(
        sku, revision, levels, published, overrides, partition, alerted, tuple(unreadable)
    )


def _channel(name: bytes) -> str:
    """The channel of an override's field.

    Raises:
        ValueError: it is no such field.
    """
    if not name.startswith(OVERRIDE_FIELD_PREFIX):
        raise ValueError("no field of the working state")
    return name[len(OVERRIDE_FIELD_PREFIX) :].decode()


def _count(text: bytes) -> int:
    """A number as Redis counts it: digits, and no zero before them.

    Raises:
        ValueError: it is none.
    """
    if not text.isdigit() or len(text) > _COUNT_DIGITS or (text[0] == _ZERO and len(text) > 1):
        raise ValueError("not a number that is counted up")
    return int(text)


def _stored_version(form: re.Pattern[bytes], text: bytes) -> int:
    """The version that `apply.lua` takes a row to have; 0 for one that counts as not stored."""
    found = form.fullmatch(text) if len(text) <= MAX_ROW else None
    return 0 if found is None else int(found[1])


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
