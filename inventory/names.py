"""Names of SKUs and warehouses, and the Redis and Kafka keys made of them."""

from inventory.errors import InvalidEvent
from stockwire_client.names import escape_sku

MAX_SKU_CHARACTERS = 200
MAX_WAREHOUSE_CHARACTERS = 64


def check_sku(sku: str) -> str:
    """Return the SKU if it can be projected.

    Raises:
        InvalidEvent: it is empty or longer than 200 characters.
    """
    if not 0 < len(sku) <= MAX_SKU_CHARACTERS:
        raise InvalidEvent(f"sku has {len(sku)} characters; 1 to {MAX_SKU_CHARACTERS} are allowed")
    return sku


def check_warehouse(warehouse: str) -> str:
    """Return the warehouse code if it can be projected.

    Raises:
        InvalidEvent: it is empty, too long, starts with the colon that marks internal fields, or
            holds the bar that ends the SKU in `sku|warehouse`.
    """
    if (
        not 0 < len(warehouse) <= MAX_WAREHOUSE_CHARACTERS
        or warehouse[0] == ":"
        or "|" in warehouse
    ):
        raise InvalidEvent(
            f"warehouse {warehouse[:80]!r} is not 1 to {MAX_WAREHOUSE_CHARACTERS} characters "
            "without a leading colon and without a bar"
        )
    return warehouse


def stock_key(sku: str) -> str:
    """The Redis hash with a SKU's rows, the worker's working state."""
    return f"stock:{{{escape_sku(sku)}}}"


def level_key(sku: str, warehouse: str) -> str:
    """The Kafka key of a stock level per warehouse, `sku|warehouse`."""
    return f"{sku}|{warehouse}"


def movement_id(sku: str, warehouse: str, version: int) -> str:
    """An id that stays the same across redelivery: a row's versions never repeat."""
    return f"{sku}|{warehouse}|{version}"
