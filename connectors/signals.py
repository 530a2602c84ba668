"""Signals to Debezium, for the topic of `inventory.topics.SIGNALS`."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson

from inventory.topics import TOPIC_PREFIX

#: Debezium takes only signals whose key is its topic prefix.
KEY = TOPIC_PREFIX.encode()


def snapshot_signal(tables: Mapping[str, str | None]) -> bytes:
    """Has Debezium read rows again (an incremental snapshot), into the ordinary stream.

    Args:
        tables: `schema.table`, and the condition that its rows meet; None for all of them.
    """
    data: dict[str, Any] = {"type": "INCREMENTAL", "data-collections": [*tables]}
    conditions = [
        {"data-collection": table, "filter": condition}
        for table, condition in tables.items()
        if condition is not None
    ]
    if conditions:
        data["additional-conditions"] = conditions
    return orjson.dumps({"id": str(uuid4()), "type": "execute-snapshot", "data": data})
