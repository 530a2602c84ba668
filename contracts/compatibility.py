"""Whether messages under one schema can be read by who was written for another.

The rule has two halves, as consumers and Kafka's logs both outlive a release:

1. A message valid under the new schema is readable by a consumer of the released one.
2. A message valid under the released schema is readable by a consumer of the new one: compacted
   topics keep it until its key changes. A field that is new may be missing there if the kit fills
   it in, which `FILLED_IN` lists.

"Readable by a consumer of a schema": every field that it requires is there, and each field that it
knows has a value that it allows. Fields that it does not know are ignored. A field of type string
without `enum` is open: any value is allowed, and the values in `examples` are only the known ones.
So these break: removing a required field, letting one be missing, widening or changing a type,
adding a value to an enum (half 1); narrowing a type, taking a value from an enum, requiring a new
field that is not filled in (half 2).
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

Schema = dict[str, Any]

#: Fields that the kit fills in where an older message lacks them: see `messages.py` of the client.
FILLED_IN: Final = frozenset({"backorderable", "order_limit"})

#: Keywords that allow and forbid nothing.
_NEUTRAL: Final = frozenset({"description", "title", "examples"})
_KNOWN: Final = _NEUTRAL | {"type", "enum", "anyOf", "format"}


def breaks(released: Schema, new: Schema, filled_in: Collection[str] = FILLED_IN) -> list[str]:
    """What breaks between two schemas of messages, one sentence each; nothing if all is well."""
    return [
        *(f"{problem} (a consumer of the release reads it)" for problem in _unread(released, new)),
        *(
            f"{problem} (a message of the release is read)"
            for problem in _unread(new, released, filled_in)
        ),
    ]


def _unread(reader: Schema, writer: Schema, filled_in: Collection[str] = ()) -> Iterator[str]:
    """Why a message of the writer may not be readable by the reader."""
    required, sure = set(reader.get("required", ())), set(writer.get("required", ()))
    theirs = writer["properties"]
    for name, node in reader["properties"].items():
        if name not in theirs:
            if name in required and name not in filled_in:
                yield f"{name} is required and is not there"
            continue
        if name in required and name not in sure:
            yield f"{name} is required and may be missing"
        yield from _unread_field(name, node, theirs[name])


def _unread_field(name: str, reader: Schema, writer: Schema) -> Iterator[str]:
    unknown = sorted((set(_keywords(reader)) | set(_keywords(writer))) - _KNOWN)
    if unknown:
        yield f"{name} uses {', '.join(unknown)}, which cannot be judged: extend compatibility.py"
        return
    allowed = {one["type"]: one for one in _options(reader)}
    for option in _options(writer):
        kind = option["type"]
        match = allowed.get(kind) or (allowed.get("number") if kind == "integer" else None)
        if match is None:
            yield f"{name} may be of type {kind}, which is not {' or '.join(sorted(allowed))}"
            continue
        if "enum" in match:
            extra = sorted(set(option.get("enum", [f"any {kind}"])) - set(match["enum"]))
            if extra:
                yield f"{name} may be {', '.join(extra)}, which is not in its enum"
        if "format" in match and option.get("format") != match["format"]:
            yield f"{name} may not have the format {match['format']}"


def _options(node: Schema) -> list[Schema]:
    """The alternatives of a field, each with one type."""
    options = node.get("anyOf", [node])
    return [
        {**option, "type": kind}
        for option in options
        for kind in ([option["type"]] if isinstance(option["type"], str) else option["type"])
    ]


def _keywords(node: Schema) -> Iterator[str]:
    yield from node
    for option in node.get("anyOf", ()):
        yield from option
