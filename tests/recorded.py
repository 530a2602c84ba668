"""Records as Debezium really wrote them (`tests/data/envelopes`), and changes made of them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

ENVELOPES = Path(__file__).parent / "data" / "envelopes"


class Recorded(NamedTuple):
    """A record with the attributes of an aiokafka record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def recorded(name: str) -> Recorded:
    """The recorded sample of this name."""
    sample = json.loads((ENVELOPES / f"{name}.json").read_text())
    return Recorded(
        sample["topic"],
        sample["partition"],
        sample["offset"],
        None if sample["key"] is None else sample["key"].encode(),
        None if sample["value"] is None else sample["value"].encode(),
        tuple((name, value.encode()) for name, value in sample["headers"]),
    )


def altered(name: str, **changes: Any) -> Recorded:
    """The sample with other values; `after__sku="x"` reaches into the event."""
    record = recorded(name)
    assert record.value is not None
    event = json.loads(record.value)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = event
        for parent in parents:
            target = target[parent]
        target[last] = value
    return record._replace(value=json.dumps(event).encode())
