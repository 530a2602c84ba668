"""JSON Schemas (2020-12) of the messages."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter

from contracts import samples
from stockwire_client import contract

Schema = dict[str, Any]


class Contract(NamedTuple):
    """A message, or the headers of all, and examples of it."""

    message: type
    examples: tuple[Mapping[str, Any], ...]


#: By the name of the file, which is that of the type in `ce_type`.
CONTRACTS: Final[Mapping[str, Contract]] = MappingProxyType(
    {
        "availability": Contract(contract.AvailabilityMessage, (samples.AVAILABILITY,)),
        "level": Contract(contract.LevelMessage, (samples.LEVEL,)),
        "movement": Contract(contract.MovementMessage, (samples.MOVEMENT, samples.BALANCE)),
        "alert": Contract(contract.AlertMessage, (samples.ALERT,)),
        "headers": Contract(contract.MessageHeaders, (samples.HEADERS,)),
    }
)


def schema_of(name: str) -> Schema:
    """The schema of one contract, complete in itself."""
    message, examples = CONTRACTS[name]
    made = TypeAdapter(message).json_schema()
    definitions = made.get("$defs", {})
    properties = {field: _plain(node, definitions) for field, node in made["properties"].items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:stockwire:contract:{name}.v1",
        "title": made["title"],
        "description": _one_line(made["description"]),
        "type": "object",
        "properties": properties,
        "required": made["required"],
        "examples": [dict(example) for example in examples],
    }


def _plain(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """A property without references and without titles that only repeat its name."""
    target = node.get("$ref")
    if target is not None:
        node = {**definitions[target.rpartition("/")[2]], **node}
    kept = {key: value for key, value in node.items() if key not in ("$ref", "title")}
    if "anyOf" in kept:
        kept["anyOf"] = [_plain(option, definitions) for option in kept["anyOf"]]
    if "description" in kept:
        kept["description"] = _one_line(kept["description"])
    return kept


def _one_line(text: str) -> str:
    return " ".join(text.split())
