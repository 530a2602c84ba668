"""The connector's file agrees with the topics and shows no secret."""

import re
from pathlib import Path

import pytest

import connectors
from connectors.apply import load_connector
from inventory import topics


@pytest.fixture(scope="module")
def config() -> dict[str, str]:
    return load_connector(Path(connectors.__file__).parent / "inventory.json")


def matches(config: dict[str, str], predicate: str, topic: str) -> bool:
    return re.fullmatch(config[f"predicates.{predicate}.pattern"], topic) is not None


def test_what_differs_between_stacks_comes_from_the_environment(config: dict[str, str]) -> None:
    for key in (
        "database.hostname",
        "database.port",
        "database.user",
        "database.password",
        "database.dbname",
        "signal.kafka.bootstrap.servers",
        "transforms.partitionBySku.partition.topic.num",
    ):
        assert re.fullmatch(r"\$\{env:DEBEZIUM_[A-Z_]+\}", config[key]), key


def test_names_agree_with_the_topics(config: dict[str, str]) -> None:
    assert config["topic.prefix"] == topics.TOPIC_PREFIX
    assert config["signal.kafka.topic"] == topics.SIGNALS
    assert config["transforms.undeclared.replacement"] == topics.DEAD_LETTER


def test_every_topic_that_the_connector_writes_is_declared(config: dict[str, str]) -> None:
    # Auto-creation is off: a topic that is missing blocks the task without an error.
    declared = {spec.name for spec in topics.ALL_TOPICS}
    tables = config["table.include.list"].replace("\\", "").split(",")
    written = {f"{topics.TOPIC_PREFIX}.{table}" for table in tables}
    outbox = {topic for topic in written if matches(config, "isOutbox", topic)}
    assert len(outbox) == 1
    assert written - outbox <= declared
    assert topics.DEBEZIUM_HEARTBEAT in declared


def test_only_declared_events_keep_their_topic(config: dict[str, str]) -> None:
    prefix = topics.events_topic("")
    for spec in topics.CAPTURE_TOPICS:
        assert not matches(config, "isUndeclaredEvent", spec.name), spec.name
    for aggregate in ("", "payment", "orders", "order\nx", "a b"):
        assert matches(config, "isUndeclaredEvent", prefix + aggregate), aggregate


def test_rows_of_a_sku_are_routed_by_it(config: dict[str, str]) -> None:
    routed = {s.name for s in topics.CAPTURE_TOPICS if matches(config, "hasSku", s.name)}
    assert routed == {topics.STOCK, topics.CHANNEL_SKU}
    by_settings = {s.name for s in topics.CAPTURE_TOPICS if s.partitions is None}
    assert routed <= by_settings


def test_the_policy_is_neither_first_nor_last_in_a_snapshot(config: dict[str, str]) -> None:
    # Tables are read in this order; the last row of `channel` tells a worker that it has them all.
    tables = config["table.include.list"].replace("\\", "").split(",")
    assert tables[0] == "inventory.heartbeat"
    assert tables.index("inventory.channel") < tables.index("inventory.stock") < len(tables) - 1
