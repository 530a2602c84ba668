"""Signals to Debezium, for the topic of `inventory.topics.SIGNALS`."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson
from confluent_kafka import KafkaException, Producer

from inventory.errors import Outage
from inventory.topics import SIGNALS, TOPIC_PREFIX

#: Debezium takes only signals whose key is its topic prefix.
KEY = TOPIC_PREFIX.encode()

_SECONDS = 30.0


def send_signal(bootstrap: str, signal: bytes) -> None:
    """Send Debezium a signal, and wait until Kafka has it.

    Args:
        bootstrap: `host:port[,host:port]` of the brokers.
        signal: as one of the functions below makes it.

    Raises:
        Outage: Kafka does not take it.
    """
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    try:
        # The topic has but one partition: Debezium wants it so.
        producer.produce(SIGNALS, key=KEY, value=signal, partition=0)
        left = producer.flush(_SECONDS)
    except KafkaException as exc:
        reason = exc.args[0].str()
        raise Outage(f"Kafka at {bootstrap} takes no signal to Debezium ({reason}).") from exc
    if left:
        raise Outage(f"Kafka at {bootstrap} took no signal to Debezium in {_SECONDS:.0f} s.")


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
