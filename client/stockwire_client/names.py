"""Names of the Redis keys that storefronts read."""

# The percent sign is escaped first and unescaped last.
_ESCAPES = (("%", "%25"), ("{", "%7B"), ("}", "%7D"))


def escape_sku(sku: str) -> str:
    """Percent-encode `%`, `{` and `}`, so that a Redis Cluster hash tag is the whole SKU."""
    for char, code in _ESCAPES:
        sku = sku.replace(char, code)
    return sku


def unescape_sku(escaped: str) -> str:
    """The inverse of `escape_sku`."""
    for char, code in reversed(_ESCAPES):
        escaped = escaped.replace(code, char)
    return escaped


def availability_key(sku: str) -> str:
    """The Redis hash that storefronts read."""
    return f"availability:{{{escape_sku(sku)}}}"


def channel_topic(channel: str) -> str:
    """The topic that a channel subscribes to, `stock.<channel>.v1`."""
    return f"stock.{channel}.v1"
