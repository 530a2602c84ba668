"""The AsyncAPI 3.0 document of the default channels and the alerts."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from contracts.schemas import CONTRACTS, Schema, schema_of
from inventory.settings import Settings
from inventory.topics import ALERT_TOPIC, CHANNEL_TOPICS, TopicSpec
from stockwire_client.contract import SNAPSHOT, SNAPSHOT_LAST, SNAPSHOT_PART

#: What each topic carries, beside the end of a back-fill.
_MESSAGES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "stock.web.v1": ("availability", "tombstone"),
        "stock.app.v1": ("availability", "tombstone"),
        "stock.wms.v1": ("level", "tombstone"),
        "stock.erp.v1": ("movement",),
        "stock.alerts.v1": ("alert",),
    }
)

_ALERTS: Final = "alerts"

_KEYS: Final = MappingProxyType(
    {
        "availability": "The SKU.",
        "level": "sku|warehouse.",
        "movement": "The SKU.",
        "alert": "The SKU.",
        "tombstone": "That of the state which is gone.",
        "snapshotEnd": "`:snapshot/<part>`.",
    }
)

_BINDING_VERSION: Final = "0.5.0"


def document(version: str) -> Schema:
    """The document.

    Args:
        version: of the contracts, that of the client's distribution.
    """
    topics = {_channel_name(spec): spec for spec in (*CHANNEL_TOPICS, ALERT_TOPIC)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Stockwire channels",
            "version": version,
            "description": "Committed stock changes, told to each sales channel within a second. "
            "Delivery is at least once; of two states with one key the one with the higher "
            "version holds, a movement counts once by its movement_id. Within v1, fields and "
            "values of open fields may be added.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "localhost:19092",
                "protocol": "kafka",
                "description": "A placeholder: the embedded stack on one machine.",
            }
        },
        "channels": {name: _channel(name, spec) for name, spec in topics.items()},
        "operations": {
            f"send{name.capitalize()}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": f"Stockwire tells what its subscribers read from {spec.name}.",
            }
            for name, spec in topics.items()
        },
        "components": {
            "messages": _messages(),
            "schemas": {name: _embedded(name) for name in CONTRACTS},
        },
    }


def _channel_name(spec: TopicSpec) -> str:
    return spec.name.split(".")[1]


def _channel(name: str, spec: TopicSpec) -> Schema:
    messages = _MESSAGES[spec.name]
    if name != _ALERTS:
        messages = (*messages, "snapshotEnd")
    retention = spec.config.get("retention.ms")
    return {
        "address": spec.name,
        "description": "Thresholds that availability has crossed, on every channel."
        if name == _ALERTS
        else f"What the channel {name} is told; any other channel of this kind looks the same.",
        "messages": {one: {"$ref": f"#/components/messages/{one}"} for one in messages},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions or Settings.model_fields["partitions"].default,
                "topicConfiguration": {
                    "cleanup.policy": [spec.cleanup],
                    **({"retention.ms": int(retention)} if retention else {}),
                },
                "bindingVersion": _BINDING_VERSION,
            }
        },
    }


def _messages() -> Schema:
    messages = {
        name: _message(
            name,
            contract.message.__name__,
            {"$ref": "#/components/schemas/headers"},
            {"$ref": f"#/components/schemas/{name}"},
        )
        | {"examples": [{"payload": dict(example)} for example in contract.examples]}
        for name, contract in CONTRACTS.items()
        if name != "headers"
    }
    messages["tombstone"] = _message(
        "tombstone", "Tombstone", {"$ref": "#/components/schemas/headers"}, {"type": "null"}
    ) | {"summary": "The SKU, or the row, is gone from the channel; ce_id ends with the version."}
    ends: Schema = {
        "type": "object",
        "properties": {
            SNAPSHOT: {"type": "string", "const": SNAPSHOT_LAST.decode()},
            SNAPSHOT_PART: {"type": "string", "pattern": "^[0-9]+/[0-9]+$"},
        },
        "required": [SNAPSHOT, SNAPSHOT_PART],
    }
    messages["snapshotEnd"] = _message("snapshotEnd", "SnapshotEnd", ends, {"type": "null"}) | {
        "summary": "In every partition, once for each part of a back-fill: a partition has shown "
        "the whole state when all parts have ended."
    }
    return messages


def _message(name: str, title: str, headers: Schema, payload: Any) -> Schema:
    return {
        "name": name,
        "title": title,
        "contentType": "application/json",
        "headers": headers,
        "payload": payload,
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": _KEYS[name]},
                "bindingVersion": _BINDING_VERSION,
            }
        },
    }


def _embedded(name: str) -> Schema:
    """A schema as a part of the document, which has a dialect and names of its own."""
    return {key: value for key, value in schema_of(name).items() if key not in ("$schema", "$id")}
