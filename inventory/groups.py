"""The apps: what each reads, its consumer group, and how a record is meant for one alone."""

from collections.abc import Mapping
from types import MappingProxyType

from inventory.errors import InvalidEvent
from inventory.topics import CHANNEL_SKU, COMMANDS_CHECKOUT, STOCK

AVAILABILITY, LEDGER, CHECKOUT = "availability", "ledger", "checkout"

#: What each app reads of what Debezium writes; topics of one app are divided among its workers
#: alike.
READS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {AVAILABILITY: (STOCK, CHANNEL_SKU), LEDGER: (STOCK,)}
)

#: What each app takes; the one of commands runs only where there is who carries them out.
TAKES: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {**READS, CHECKOUT: (COMMANDS_CHECKOUT,)}
)

#: Header of a record of the stock topic that is meant for one of the apps alone: its name. Records
#: of overrides need none, as only one app reads them.
REPAIR = "stockwire_repair"

#: Header of a record of the auditor's, of a stock row or of an override: the version that Redis has
#: of it, and that is none of Postgres'. Just that one is replaced, though it is the higher one.
REPLACES = "stockwire_replaces"

#: A longer number is in no hash that can be read: Python takes no more digits for one.
_DIGITS = 4_000


def replaced_version(headers: Mapping[str, bytes]) -> int | None:
    """The version that a record takes the place of; None without the header.

    Raises:
        InvalidEvent: it is not a number.
    """
    text = headers.get(REPLACES)
    if text is None:
        return None
    if not (text.isdigit() and len(text) <= _DIGITS):
        raise InvalidEvent(f"header {REPLACES}: {text[:_DIGITS]!r} is not a version")
    return int(text)


def group_id(app: str) -> str:
    """The consumer group that all workers of an app form."""
    return f"stockwire-{app}"


def channel_group(channel: str) -> str:
    """The consumer group, without members, that holds a channel's standings."""
    return f"{group_id(LEDGER)}.{channel}"


#: The groups of the apps that are always there.
GROUPS = tuple(map(group_id, READS))
