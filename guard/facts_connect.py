"""Reads what there is to know of Kafka Connect and the connector."""

from typing import Any

from connectors.apply import CONNECTOR
from connectors.client import ConnectClient
from guard.facts import ConnectFacts, Unread
from inventory.errors import ConnectorError

_SECONDS = 5.0


def open_connect(url: str) -> ConnectClient:
    """A client that gives up soon: what does not answer is a finding."""
    return ConnectClient(url, patience=_SECONDS, timeout=_SECONDS)


def read_connect(client: ConnectClient, plugin: str | None = None) -> ConnectFacts | Unread:
    """Look at the connector; and whether Connect has this plugin, when one is named."""
    try:
        status = client.status(CONNECTOR)
        return ConnectFacts(
            config=client.get_config(CONNECTOR),
            status=status,
            offset=None if status is None else stored_position(client.offsets(CONNECTOR)),
            has_plugin=plugin is None or plugin in client.plugins(),
        )
    except ConnectorError as exc:
        return Unread(str(exc))


def stored_position(offsets: list[dict[str, Any]]) -> int | None:
    """The WAL position among Debezium's offsets, in bytes; None while there is none."""
    found = [offset["lsn"] for offset in offsets if isinstance(offset.get("lsn"), int)]
    return max(found, default=None)
