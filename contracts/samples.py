"""One message of each kind, for the examples of the schemas."""

from stockwire_client.contract import (
    AlertKind,
    AlertMessage,
    AvailabilityMessage,
    LevelMessage,
    MessageHeaders,
    MovementKind,
    MovementMessage,
    Status,
)

COMMITTED_AT = "2026-11-21T06:19:24.255483Z"

AVAILABILITY: AvailabilityMessage = {
    "sku": "SKU-1",
    "channel": "web",
    "available": 12,
    "status": Status.IN_STOCK,
    "previous_available": 13,
    "backorderable": 0,
    "order_limit": 10,
    "version": 1795241964255483,
    "committed_at": COMMITTED_AT,
    "restock_at": None,
}

LEVEL: LevelMessage = {
    "sku": "SKU-1",
    "warehouse": "AMS",
    "on_hand": 10,
    "reserved": 1,
    "available": 8,
    "safety_stock": 1,
    "incoming": 0,
    "version": 10,
    "reason": "order",
    "reference": "ORD-1",
    "committed_at": COMMITTED_AT,
}

MOVEMENT: MovementMessage = {
    "kind": MovementKind.MOVEMENT,
    "sku": "SKU-1",
    "warehouse": "AMS",
    "delta_on_hand": 0,
    "delta_reserved": 1,
    "on_hand": 10,
    "reserved": 1,
    "reason": "order",
    "reference": "ORD-1",
    "caused_by": "web",
    "version": 10,
    "previous_version": 8,
    "movement_id": "SKU-1|AMS|10",
    "committed_at": COMMITTED_AT,
}

BALANCE: MovementMessage = {
    **MOVEMENT,
    "kind": MovementKind.BALANCE,
    "delta_on_hand": None,
    "delta_reserved": None,
    "previous_version": None,
}

ALERT: AlertMessage = {
    "alert_id": "SKU-1|web|1795241964255483",
    "kind": AlertKind.LOW_STOCK,
    "sku": "SKU-1",
    "channel": "web",
    "available": 5,
    "previous_available": 6,
    "status": Status.LOW_STOCK,
    "previous_status": Status.IN_STOCK,
    "version": 1795241964255483,
    "committed_at": COMMITTED_AT,
}

HEADERS: MessageHeaders = {
    "ce_id": "SKU-1|1795241964255483",
    "ce_source": "/stockwire/channels/web",
    "ce_type": "stockwire.availability.v1",
    "ce_specversion": "1.0",
    "ce_time": COMMITTED_AT,
    "ce_subject": "SKU-1",
}
