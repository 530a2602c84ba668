"""What the channels are told: the one source of the messages, for Stockwire and its subscribers.

Within v1, fields and values of open fields (`str` that names its known values) may be added; what
is there is not removed, renamed or widened. Readers ignore fields and tolerate values that they do
not know.
"""

from enum import StrEnum
from typing import Annotated, Final, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

#: Header of a message that belongs to a back-fill (`true`), or ends one part of it (`last`).
SNAPSHOT: Final = "stockwire_snapshot"
#: Value of `SNAPSHOT` on the record that ends a part.
SNAPSHOT_LAST: Final = b"last"
#: Header of the record that ends a part: `<part>/<parts>`.
SNAPSHOT_PART: Final = "stockwire_snapshot_part"
#: Header of a message about what the channel has caused itself (`true`).
ECHO: Final = "stockwire_echo"
#: Header with the W3C trace context, where the source had one.
TRACEPARENT: Final = "traceparent"
#: CloudEvents' header with an id that redelivery repeats: `<key>|<version>`, or the movement_id.
CE_ID: Final = "ce_id"
#: CloudEvents' header with the type of the message, `stockwire.<kind>.v1`.
CE_TYPE: Final = "ce_type"


class Status(StrEnum):
    """What a storefront shows."""

    IN_STOCK = "in_stock"
    LOW_STOCK = "low_stock"
    OUT_OF_STOCK = "out_of_stock"
    BACKORDER = "backorder"
    """Nothing is left, but some may be sold in advance."""
    SKU_BLOCKED = "sku_blocked"
    """The channel may not sell this SKU."""
    CHANNEL_BLOCKED = "channel_blocked"
    """The channel may not sell anything."""


class MovementKind(StrEnum):
    """Whether a ledger adds a message up, or starts from it."""

    MOVEMENT = "movement"
    BALANCE = "balance"


class AlertKind(StrEnum):
    """Which threshold a SKU has crossed on a channel."""

    LOW_STOCK = "low_stock"
    OUT_OF_STOCK = "out_of_stock"
    BACK_IN_STOCK = "back_in_stock"


_documented = with_config(ConfigDict(use_attribute_docstrings=True))

_Status = Annotated[str, Field(examples=[status.value for status in Status])]
_AlertKind = Annotated[str, Field(examples=[kind.value for kind in AlertKind])]
_Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


@_documented
class AvailabilityMessage(TypedDict):
    """State of a SKU on a channel of kind `availability`; a later `version` wins."""

    sku: str
    """The stock keeping unit; also the record's key."""
    channel: str
    """The channel's name."""
    available: int
    """Units that the channel may promise now."""
    status: _Status
    """What a storefront shows: a `Status`, or one that a later minor version has added."""
    previous_available: int | None
    """Units that the channel was told before; null when it was told none."""
    backorderable: int
    """Units that may be sold in advance; 0 while anything is available."""
    order_limit: int
    """The most units that one order may take."""
    version: int
    """A clock in µs; of two messages about a SKU the one with the higher version holds."""
    committed_at: _Time
    """When the change was committed, UTC."""
    restock_at: _Time | None
    """When more is expected, UTC; null when nothing is announced."""


@_documented
class LevelMessage(TypedDict):
    """State of a stock row, for a channel of kind `level`; a later `version` wins."""

    sku: str
    """The stock keeping unit; the record's key is `sku|warehouse`."""
    warehouse: str
    """The warehouse's code."""
    on_hand: int
    """Units that are physically there."""
    reserved: int
    """Of those, units that are promised already."""
    available: int
    """max(0, on_hand - reserved - safety_stock)."""
    safety_stock: int
    """Units that are never promised."""
    incoming: int
    """Units on their way to the warehouse."""
    version: int
    """The row's; of two messages about a row the one with the higher version holds."""
    reason: str | None
    """Why it changed, as the writing transaction said."""
    reference: str | None
    """What it changed for, such as an order's number."""
    committed_at: _Time
    """When the change was committed, UTC."""


@_documented
class MovementMessage(TypedDict):
    """A change of a stock row, for a channel of kind `movement`; each `movement_id` counts once.

    A `balance` is a row read by a snapshot: absolute quantities, deltas null.
    """

    kind: MovementKind
    """Closed: a ledger cannot book what it does not know."""
    sku: str
    """The stock keeping unit; also the record's key."""
    warehouse: str
    """The warehouse's code."""
    delta_on_hand: int | None
    """Units that came (positive) or went; null on a balance."""
    delta_reserved: int | None
    """Units newly reserved (positive) or released; null on a balance."""
    on_hand: int
    """Units that are physically there after it."""
    reserved: int
    """Of those, units that are promised after it."""
    reason: str | None
    """Why it changed, as the writing transaction said."""
    reference: str | None
    """What it changed for, such as an order's number."""
    caused_by: str | None
    """Who caused it, such as a channel's own system."""
    version: int
    """The row's after it; a deletion has the last version + 1."""
    previous_version: int | None
    """The row's before it: a gap shows here. Null for a new row and on a balance."""
    movement_id: str
    """Stays the same across redelivery. A balance has that of the movement it includes last."""
    committed_at: _Time
    """When the change was committed, UTC."""


@_documented
class AlertMessage(TypedDict):
    """A threshold that the availability of a SKU has crossed; each `alert_id` once."""

    alert_id: str
    """Stays the same across redelivery."""
    kind: _AlertKind
    """An `AlertKind`, or one that a later minor version has added."""
    sku: str
    """The stock keeping unit; also the record's key."""
    channel: str
    """The channel that it was crossed on."""
    available: int
    """Units that the channel may promise now."""
    previous_available: int | None
    """Units that the channel was told before."""
    status: _Status
    """A `Status`, or one that a later minor version has added."""
    previous_status: _Status
    """The one before it."""
    version: int
    """Of the availability message that says the same."""
    committed_at: _Time
    """When the change was committed, UTC."""


@_documented
class MessageHeaders(TypedDict):
    """Headers of every message: CloudEvents 1.0 in binary mode, and Stockwire's own; all UTF-8.

    The record that ends a part of a back-fill has only `stockwire_snapshot` and
    `stockwire_snapshot_part`, a key that starts with `:snapshot/`, and no value.
    """

    ce_id: str
    """Stays the same across redelivery; ends with the message's version, tombstones' too."""
    ce_source: str
    """`/stockwire/channels/<channel>`."""
    ce_type: str
    """`stockwire.<kind>.v1`."""
    ce_specversion: str
    """Of CloudEvents."""
    ce_time: _Time
    """When the change was committed, UTC."""
    ce_subject: str
    """What it is about: the SKU, or `sku|warehouse`."""
    traceparent: NotRequired[str]
    """W3C trace context, where the source had one."""
    stockwire_snapshot: NotRequired[str]
    """`true` on a message of a back-fill."""
    stockwire_echo: NotRequired[str]
    """`true` on a level that the channel itself has caused."""
