"""From the bytes of a record to a `Change`, for each kind of channel."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from stockwire_client.contract import (
    CE_ID,
    CE_TYPE,
    ECHO,
    SNAPSHOT,
    TRACEPARENT,
    AlertMessage,
    AvailabilityMessage,
    LevelMessage,
    MovementMessage,
)
from stockwire_client.errors import InvalidMessage

M = TypeVar("M")


class Record(NamedTuple):
    """A record as Kafka has it, without an error."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int = 0
    """When it was written, in ms since the epoch."""

    def poison(self, reason: str) -> InvalidMessage:
        """The error that says what is wrong with it."""
        return InvalidMessage(
            reason,
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
            key=self.key,
            value=self.value,
            headers=self.headers,
        )


class Change(NamedTuple, Generic[M]):
    """What a handler is given.

    Attributes:
        key: of the record: the SKU, or `sku|warehouse` on a level channel.
        sku: the stock keeping unit.
        warehouse: its code; None on channels that do not speak of warehouses.
        value: the message; None (a tombstone) when the SKU or the row is gone from the channel.
        version: of the message or the tombstone; None for a tombstone that does not say.
        snapshot: whether it belongs to a back-fill.
        echo: whether the channel itself has caused it.
        traceparent: W3C trace context, where the source had one.
        topic, partition, offset: where it stands.
    """

    key: str
    sku: str
    warehouse: str | None
    value: M | None
    version: int | None
    snapshot: bool
    echo: bool
    traceparent: str | None
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Kind(Generic[M]):
    """What a subscription reads.

    Attributes:
        name: as in the type of its messages, `stockwire.<name>.v1`.
        adapter: validates a value.
        identity: the field that a repeated message repeats; None where a later version wins.
        by_warehouse: whether the key is `sku|warehouse`.
    """

    name: str
    adapter: TypeAdapter[M]
    identity: str | None = None
    by_warehouse: bool = False

    def read(self, record: Record) -> Change[M]:
        """The change that a record tells.

        Raises:
            InvalidMessage: it is not JSON, not valid, of another kind or without a key.
        """
        headers = _texts(record)
        told = headers.get(CE_TYPE)
        if told is not None and told != f"stockwire.{self.name}.v1":
            raise record.poison(f"its type is {told!r}, not 'stockwire.{self.name}.v1'")
        key = _text(record, record.key, "key")
        if not key:
            raise record.poison("it has no key")
        sku, warehouse = self._parts(record, key)
        value: M | None = None
        version = _version_in(headers)
        if record.value is not None:
            value, fields = self._value(record, record.value)
            version = fields["version"]
            if fields["sku"] != sku or (self.by_warehouse and fields["warehouse"] != warehouse):
                raise record.poison(f"its key {key!r} is not that of its value")
            warehouse = fields.get("warehouse")
        elif self.identity is not None:
            raise record.poison("it has no value, which only a state can lack")
        return Change(
            key,
            sku,
            warehouse,
            value,
            version,
            SNAPSHOT in headers,
            headers.get(ECHO) == "true",
            headers.get(TRACEPARENT),
            record.topic,
            record.partition,
            record.offset,
        )

    def _parts(self, record: Record, key: str) -> tuple[str, str | None]:
        if not self.by_warehouse:
            return key, None
        sku, bar, warehouse = key.rpartition("|")  # a SKU may hold a bar, a warehouse does not
        if not bar:
            raise record.poison(f"its key {key!r} is not sku|warehouse")
        return sku, warehouse

    def _value(self, record: Record, value: bytes) -> tuple[M, Mapping[str, Any]]:
        try:
            message: Any = self.adapter.validate_json(value, strict=True)
        except ValidationError as exc:
            raise record.poison(_first_problem(exc)) from exc
        return message, message


#: A bigint of Postgres.
_VERSION = re.compile("[0-9]{1,19}")

#: Headers that are read; others may hold anything.
_READ = frozenset({CE_ID, CE_TYPE, SNAPSHOT, ECHO, TRACEPARENT})


def _texts(record: Record) -> dict[str, str]:
    return {
        name: _text(record, value, f"header {name}")
        for name, value in record.headers
        if name in _READ
    }


def _text(record: Record, value: bytes | None, what: str) -> str:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError as exc:
        raise record.poison(f"its {what} is not UTF-8") from exc


def _version_in(headers: Mapping[str, str]) -> int | None:
    """The version that a tombstone has nowhere else: its id is `<key>|<version>`."""
    digits = headers.get(CE_ID, "").rpartition("|")[2]
    return int(digits) if _VERSION.fullmatch(digits) else None


def _first_problem(exc: ValidationError) -> str:
    errors = exc.errors(include_url=False, include_input=False)
    where = ".".join(str(part) for part in errors[0]["loc"])
    return f"{where}: {errors[0]['msg']}" if where else errors[0]["msg"]


def _with_later_fields(value: Any) -> Any:
    """Compacted topics keep messages from before these fields; they meant the same as this."""
    if isinstance(value, dict):
        value.setdefault("backorderable", 0)
        if "order_limit" not in value:
            value["order_limit"] = value.get("available") or value["backorderable"]
    return value


AVAILABILITY: Final[Kind[AvailabilityMessage]] = Kind(
    "availability",
    TypeAdapter(Annotated[AvailabilityMessage, BeforeValidator(_with_later_fields)]),
)
LEVEL: Final[Kind[LevelMessage]] = Kind("level", TypeAdapter(LevelMessage), by_warehouse=True)
MOVEMENT: Final[Kind[MovementMessage]] = Kind(
    "movement", TypeAdapter(MovementMessage), identity="movement_id"
)
ALERT: Final[Kind[AlertMessage]] = Kind("alert", TypeAdapter(AlertMessage), identity="alert_id")
