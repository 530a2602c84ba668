"""What is guarded, by name."""

#: What the connector's file calls its slot and its publication.
SLOT = "stockwire_inventory"
PUBLICATION = "stockwire"
CDC_ROLE = "stockwire_debezium"

#: Tables of which a change event must carry the row as it was.
WHOLE_ROWS = frozenset({"inventory.stock", "inventory.channel", "inventory.channel_sku"})
CAPTURED = WHOLE_ROWS | {"inventory.outbox", "inventory.heartbeat"}
#: Signals are captured too, in the connector's own way.
PUBLISHED = CAPTURED | {"inventory.debezium_signal"}

#: Privilege and table; an empty table for the role's own attribute.
RIGHTS = (
    ("REPLICATION", ""),
    *(("SELECT", table) for table in sorted(PUBLISHED)),
    ("UPDATE", "inventory.heartbeat"),
    ("INSERT", "inventory.debezium_signal"),
)
