"""What a SKU's two hashes must hold, given its rows and what is kept of it: pure.

A rebuild compares that with what is there (`projections.space`). What is right already stays as it
is, byte by byte: its versions do not rise, and nobody has to be told anything.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from inventory.availability import promises
from inventory.policy import NO_OVERRIDES, ChannelOverride, PolicySet
from inventory.projection import SkuProjection, SkuState, is_current, project
from inventory.stock import StockLevel
from projections.codec import (
    availability_fields,
    decode_level,
    decode_override,
    decode_projection,
    encode_level,
    encode_override,
    encode_projection,
)
from projections.fields import (
    ALERTED_FIELD,
    OVERRIDE_FIELD_PREFIX,
    PARTITION_FIELD,
    PUBLISHED_FIELD,
    REVISION_FIELD,
    UNREADABLE,
)
from projections.ports import SkuChanges

#: A Redis hash as it is.
Fields: TypeAlias = Mapping[bytes, bytes]

_COLON = ord(":")

#: Where the commit time stands in the text of a level and of an override.
_LEVEL_COMMIT, _OVERRIDE_COMMIT = 6, 1


class Sku(NamedTuple):
    """Both hashes of a SKU as they must be.

    Attributes:
        stock: all fields of the working state.
        readers: field, value, field, value, … of the readers' hash.
        anew: the numbers were computed anew: what is kept is missing, falsified or outdated.
    """

    stock: dict[bytes, bytes]
    readers: list[str]
    anew: bool


def rows_of(kept: Fields) -> dict[bytes, bytes]:
    """The rows of a working state, levels and overrides; those that cannot be read are left out."""
    rows = {}
    for name, text in kept.items():
        if name[:1] != b":" or name.startswith(OVERRIDE_FIELD_PREFIX):
            try:
                decode_row(name, text)
            except UNREADABLE:
                continue
            rows[name] = text
    return rows


def decode_row(name: bytes, text: bytes) -> StockLevel | ChannelOverride:
    """One row of a working state.

    Raises:
        ValueError, TypeError: it is not one.
    """
    return decode_override(text) if name[:1] == b":" else decode_level(text)


def raised(rows: Mapping[bytes, bytes], changes: SkuChanges) -> dict[bytes, bytes]:
    """Rows with those changes in them whose version is not lower than the one that is there.

    Or whose one takes the place of just that one, whatever it is.

    Args:
        rows: as `rows_of` gives them.
        changes: from a source that is trusted more than the rows.
    """
    result = dict(rows)
    wanted = [(code.encode(), encode_level(level)) for code, level in changes.levels.items()]
    wanted += [
        (OVERRIDE_FIELD_PREFIX + channel.encode(), encode_override(override))
        for channel, override in changes.overrides.items()
    ]
    of_levels, of_overrides = changes.replaced
    false = {code.encode(): version for code, version in of_levels.items()}
    false |= {
        OVERRIDE_FIELD_PREFIX + name.encode(): version for name, version in of_overrides.items()
    }
    for name, text in wanted:
        row = text.encode()
        stored = result.get(name)
        if name in false and stored is not None and _version(stored) == false[name]:
            stored = None
        if stored is None or (
            stored != row
            and _version(row) >= _version(stored)
            and not same_but_commit(name, row, stored)
        ):
            result[name] = row
    return result


def same_but_commit(name: bytes, row: bytes, other: bytes) -> bool:
    """Whether two texts of a row differ in nothing but the commit time."""
    position = _OVERRIDE_COMMIT if name[:1] == b":" else _LEVEL_COMMIT
    here, there = row.split(), other.split()
    if len(here) != len(there):
        return False
    here[position] = there[position]
    return here == there


def build(
    sku: str,
    rows: Mapping[bytes, bytes],
    kept: Fields,
    policies: PolicySet,
    partition: int | None,
    above: int = 0,
) -> Sku:
    """Both hashes of a SKU with these rows.

    Where the rows are those that are kept, and the last projection says what they say, it stays.
    Otherwise the next one is computed from it: its version is higher, so channels' clocks never go
    back. Where nothing is kept, the result is what the ordinary writer makes of the rows in one
    write.

    Args:
        sku: the SKU.
        rows: all of its rows, as `raised` gives them.
        kept: the working state that the last projection is taken from, readable or not.
        policies: of all channels that are to be told.
        partition: of the stock topic, that the SKU's changes come from; None leaves what is kept.
        above: a revision that is counted up from, if anything is other than kept and it is higher.
    """
    levels: dict[str, StockLevel] = {}
    overrides: Mapping[str, ChannelOverride] = NO_OVERRIDES
    same = True
    for name, text in rows.items():
        if name[0] != _COLON:
            levels[name.decode()] = decode_level(text)
        else:
            channel = name.removeprefix(OVERRIDE_FIELD_PREFIX).decode()
            overrides = {**overrides, channel: decode_override(text)}
        same = same and kept.get(name) == text
    last, revision = _last(sku, kept)
    stock = dict(rows)
    for name in (PARTITION_FIELD, ALERTED_FIELD):
        if name in kept and kept[name].isdigit():
            stock[name] = kept[name]
    if partition is not None:
        stock[PARTITION_FIELD] = b"%d" % partition
    if (
        same
        and last is not None
        and is_current(last, revision, policies)
        and holds(last, levels, overrides, policies)
    ):
        stock[REVISION_FIELD], stock[PUBLISHED_FIELD] = kept[REVISION_FIELD], kept[PUBLISHED_FIELD]
        return Sku(stock, availability_fields(last), anew=False)
    if not levels:
        # Overrides may come before the stock: there is nothing to tell yet.
        stock[REVISION_FIELD] = b"%d" % (
            revision if same and revision else max(revision, above) + 1
        )
        return Sku(stock, [], anew=not same)
    state = SkuState(sku, max(revision, above) + 1, levels, last, overrides)
    projection = project(state, policies)
    stock[REVISION_FIELD] = b"%d" % projection.revision
    stock[PUBLISHED_FIELD] = encode_projection(projection).encode()
    return Sku(stock, availability_fields(projection), anew=True)


def holds(
    last: SkuProjection,
    levels: Mapping[str, StockLevel],
    overrides: Mapping[str, ChannelOverride],
    policies: PolicySet,
) -> bool:
    """Whether a projection says what these rows say.

    Where the hysteresis allows for two statuses, the one that is there is right if it would stay.
    """
    told = last.channels
    previous = {name: state.status for name, state in told.items() if state is not None}
    listed = 0
    for name, now in promises(levels, overrides, policies.policies, previous).items():
        state = told.get(name)
        if now is None or state is None:
            if now is not None or state is not None:
                return False
            continue
        listed += 1
        if (
            now.available != state.available
            or now.status is not state.status
            or now.restock_at != state.restock_at
            or now.backorderable != state.backorderable
            or now.order_limit != state.order_limit
        ):
            return False
    return listed == len(previous)


def in_flight(kept: Fields, rows: Mapping[bytes, bytes]) -> bool:
    """Whether a state looks like that of a SKU which a worker is just about to write.

    Either between the two steps of a write, the rows are there and the numbers not yet; or before
    the first one, when the source already knows a later version of a row.
    """
    try:
        revision = int(kept[REVISION_FIELD])
        last = (
            decode_projection("", kept[PUBLISHED_FIELD]).revision if PUBLISHED_FIELD in kept else 0
        )
        behind = [name for name, text in rows.items() if kept.get(name) != text]
        if behind:
            return all(_version(rows[name]) > _version(kept[name]) for name in behind)
    except UNREADABLE:
        return False
    return revision == last + 1


def _version(text: bytes) -> int:
    return int(text[: text.index(b" ")])


def _last(sku: str, kept: Fields) -> tuple[SkuProjection | None, int]:
    """The last projection and the revision, as far as they can be read."""
    last = None
    revision = 0
    try:
        revision = int(kept.get(REVISION_FIELD, b"0"))
        if PUBLISHED_FIELD in kept:
            last = decode_projection(sku, kept[PUBLISHED_FIELD])
    except UNREADABLE:
        return None, max(revision, 0)
    return last, max(revision, 0)
