"""The two apps: what each reads, its consumer group, and how a record is meant for one alone."""

from types import MappingProxyType

from inventory.topics import CHANNEL_SKU, STOCK

AVAILABILITY, LEDGER = "availability", "ledger"

#: What each app reads; topics of one app are divided among its workers alike.
READS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {AVAILABILITY: (STOCK, CHANNEL_SKU), LEDGER: (STOCK,)}
)

#: Header of a record of the stock topic that is meant for one of the apps alone: its name.
REPAIR = "stockwire_repair"

#: Header of a delete event of the auditor's: the version that Redis has of the row, and that is
#: none of Postgres'. Just that one is replaced, though it is the higher one.
REPLACES = "stockwire_replaces"


def group_id(app: str) -> str:
    """The consumer group that all workers of an app form."""
    return f"stockwire-{app}"


def channel_group(channel: str) -> str:
    """The consumer group, without members, that holds a channel's standings."""
    return f"{group_id(LEDGER)}.{channel}"


#: The groups of both apps.
GROUPS = tuple(map(group_id, READS))
