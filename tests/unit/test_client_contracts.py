"""The contracts are current, valid, and readable across releases; their headers are CloudEvents."""

import copy
import json

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from jsonschema import Draft202012Validator

from connectors.envelope import read_stock_change
from contracts import generate
from contracts.compatibility import FILLED_IN, breaks
from contracts.schemas import CONTRACTS, schema_of
from inventory.messages import (
    alert_messages,
    availability_messages,
    level_message,
    movement_message,
)
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.projection import ChannelState, SkuProjection
from inventory.topics import ALERT_TOPIC, CHANNEL_TOPICS
from stockwire_client import ALERT, AVAILABILITY, LEVEL, MOVEMENT, Status
from stockwire_client.messages import Record
from tests.recorded import recorded

KINDS = {kind.name: kind for kind in (AVAILABILITY, LEVEL, MOVEMENT, ALERT)}
COMMITTED = "2026-11-21T06:19:24.255483Z"
#: With what JSON, URLs and headers treat specially.
AWKWARD_SKU = 'Ü %41 {a}|"b"\n'


# --- current


def test_the_files_are_what_the_code_says():
    assert generate.problems() == []


def test_a_stale_file_and_a_released_contract_that_is_gone_are_told(tmp_path):
    for name, content in generate.documents().items():
        (tmp_path / name).write_text(generate.as_text(content))
    assert generate.problems(tmp_path) == []
    (tmp_path / "level.v1.json").write_text("{}")
    (tmp_path / "asyncapi.json").unlink()
    released = tmp_path / "released"
    released.mkdir()
    (released / "order.v1.json").write_text("{}")
    assert generate.problems(tmp_path, released) == [
        "level.v1.json is not what the code says: run `make contracts`.",
        "asyncapi.json is not what the code says: run `make contracts`.",
        "order.v1.json was released and is gone: v1 must stay.",
    ]


def test_check_says_by_its_exit_code_what_it_found(monkeypatch, capsys):
    assert generate.main(["--check"]) == 0
    monkeypatch.setattr(generate, "problems", lambda: ["level.v1.json is odd."])
    assert generate.main(["--check"]) == 1
    assert "level.v1.json is odd." in capsys.readouterr().err


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_schemas_are_valid_and_describe_every_field(name):
    schema = schema_of(name)
    Draft202012Validator.check_schema(schema)
    for example in schema["examples"]:
        Draft202012Validator(schema).validate(example)
    assert all(field.get("description") for field in schema["properties"].values())


def test_the_document_has_every_default_channel_as_kafka_keeps_it():
    channels = generate.documents()["asyncapi.json"]["channels"]
    kept = {
        one["address"]: one["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"]
        for one in channels.values()
    }
    assert kept == {spec.name: [spec.cleanup] for spec in (*CHANNEL_TOPICS, ALERT_TOPIC)}


# --- across releases


@pytest.mark.parametrize("path", sorted(generate.RELEASED.glob("*.v1.json")), ids=lambda p: p.stem)
def test_the_kit_reads_what_was_released(path):
    name = path.name.partition(".")[0]
    if name not in KINDS:
        return
    for example in json.loads(path.read_text())["examples"]:
        key = f"{example['sku']}|{example['warehouse']}" if name == "level" else example["sku"]
        record = Record("t", 0, 0, key.encode(), json.dumps(example).encode(), [])
        assert KINDS[name].read(record).value is not None


def test_fields_that_are_said_to_be_filled_in_are():
    message = dict(schema_of("availability")["examples"][0])
    for field in FILLED_IN:
        del message[field]
    record = Record("t", 0, 0, message["sku"].encode(), json.dumps(message).encode(), [])
    value = AVAILABILITY.read(record).value
    assert value is not None
    assert set(value) >= FILLED_IN


RELEASED = {
    "properties": {
        "sku": {"type": "string"},
        "units": {"type": "integer"},
        "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "status": {"type": "string", "examples": ["x"]},
        "at": {"type": "string", "format": "date-time"},
        "trace": {"type": "string"},
    },
    "required": ["sku", "units", "limit", "kind", "status", "at"],
}
BY_OLD = "(a consumer of the release reads it)"
OF_OLD = "(a message of the release is read)"


def edited(edit):
    new = copy.deepcopy(RELEASED)
    edit(new["properties"], new["required"])
    return new


@pytest.mark.parametrize(
    "edit",
    [
        lambda fields, required: None,
        lambda fields, required: fields.update(new={"type": "object"}),
        lambda fields, required: fields["status"].update(examples=["x", "y"], description="d"),
        lambda fields, required: fields.pop("trace"),
        lambda fields, required: fields["limit"].update(
            anyOf=RELEASED["properties"]["limit"]["anyOf"][::-1]
        ),
        lambda fields, required: (
            fields.update(order_limit={"type": "integer"}),
            required.append("order_limit"),
        ),
    ],
    ids=["same", "new field", "open value", "optional removed", "reordered", "filled in"],
)
def test_what_does_not_break(edit):
    assert breaks(RELEASED, edited(edit)) == []


@pytest.mark.parametrize(
    ("edit", "problems"),
    [
        (
            lambda fields, required: (fields.pop("units"), required.remove("units")),
            [f"units is required and is not there {BY_OLD}"],
        ),
        (
            lambda fields, required: required.remove("units"),
            [f"units is required and may be missing {BY_OLD}"],
        ),
        (
            lambda fields, required: fields.update(
                units={"anyOf": [{"type": "integer"}, {"type": "null"}]}
            ),
            [f"units may be of type null, which is not integer {BY_OLD}"],
        ),
        (
            lambda fields, required: fields.update(limit={"type": "integer"}),
            [f"limit may be of type null, which is not integer {OF_OLD}"],
        ),
        (
            lambda fields, required: fields.update(units={"type": "string"}),
            [
                f"units may be of type string, which is not integer {BY_OLD}",
                f"units may be of type integer, which is not string {OF_OLD}",
            ],
        ),
        (
            lambda fields, required: fields.update(units={"type": "number"}),
            [f"units may be of type number, which is not integer {BY_OLD}"],
        ),
        (
            lambda fields, required: fields["kind"].update(enum=["a", "b", "c"]),
            [f"kind may be c, which is not in its enum {BY_OLD}"],
        ),
        (
            lambda fields, required: fields["kind"].update(enum=["a"]),
            [f"kind may be b, which is not in its enum {OF_OLD}"],
        ),
        (
            lambda fields, required: fields["kind"].pop("enum"),
            [f"kind may be any string, which is not in its enum {BY_OLD}"],
        ),
        (
            lambda fields, required: fields["status"].update(enum=["x"]),
            [f"status may be any string, which is not in its enum {OF_OLD}"],
        ),
        (
            lambda fields, required: fields["at"].pop("format"),
            [f"at may not have the format date-time {BY_OLD}"],
        ),
        (
            lambda fields, required: (
                fields.update(batch={"type": "string"}),
                required.append("batch"),
            ),
            [f"batch is required and is not there {OF_OLD}"],
        ),
        (
            lambda fields, required: required.append("trace"),
            [f"trace is required and may be missing {OF_OLD}"],
        ),
        (
            lambda fields, required: fields["units"].update(minimum=0),
            [
                f"units uses minimum, which cannot be judged: extend compatibility.py {BY_OLD}",
                f"units uses minimum, which cannot be judged: extend compatibility.py {OF_OLD}",
            ],
        ),
    ],
    ids=[
        "removed",
        "may be missing",
        "widened",
        "narrowed",
        "changed",
        "integer to number",
        "enum widened",
        "enum narrowed",
        "enum opened",
        "open closed",
        "format dropped",
        "required added",
        "made required",
        "not judged",
    ],
)
def test_what_breaks(edit, problems):
    assert breaks(RELEASED, edited(edit)) == problems


# --- CloudEvents


def published():
    """A message of every kind, as Stockwire makes them."""
    state = ChannelState(
        2, Status.LOW_STOCK, 12, 1795241964255483, 1795241964255483, None, 0, 2, Status.IN_STOCK
    )
    projection = SkuProjection(
        AWKWARD_SKU, 3, "f", 1795241964255483, 1795241964255483, {"web": state}
    )
    change = read_stock_change(recorded("stock_update").value)
    wms = ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1")
    erp = ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1")
    return {
        "availability": availability_messages(projection, [("web", "stock.web.v1")])[0],
        "alert": alert_messages(projection)[0],
        "level": level_message(change, wms, COMMITTED),
        "movement": movement_message(change, erp, COMMITTED),
    }


@pytest.mark.parametrize("name", KINDS)
def test_headers_are_cloudevents_in_binary_mode(name):
    message = published()[name]
    event = from_binary(
        KafkaMessage(dict(message.headers), message.key, message.value), JSONFormat(), CloudEvent
    )
    assert event.get_specversion() == "1.0"
    assert event.get_type() == f"stockwire.{name}.v1"
    assert event.get_source().startswith("/stockwire/channels/")
    assert event.get_time().isoformat() == COMMITTED.replace("Z", "+00:00")
    assert event.get_extension("partitionkey") == message.key.decode()
    assert event.get_data() == json.loads(message.value)
    subject = message.key.decode()
    assert event.get_subject() == subject
    assert event.get_id().startswith(f"{event.get_data()['sku']}|")


@pytest.mark.parametrize("name", KINDS)
def test_what_is_published_follows_its_schema_and_is_read_by_the_kit(name):
    message = published()[name]
    value = json.loads(message.value)
    Draft202012Validator(schema_of(name)).validate(value)
    headers = {key: value.decode() for key, value in message.headers}
    Draft202012Validator(schema_of("headers")).validate(headers)
    change = KINDS[name].read(Record("t", 0, 0, message.key, message.value, message.headers))
    assert change.value == value
    assert change.version == value["version"]
