"""Topics as they must be, and what makes them so."""

import time
from collections.abc import Iterable, Mapping

import psycopg
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from connectors.topics import ensure_topics
from guard.facts_kafka import read_topics
from guard.facts_postgres import read_channel_topics
from guard.reading import kafka_outages
from guard.steps import Say
from guard.topic_settings import to_be_set
from inventory.errors import StackError, TopicError
from inventory.settings import Settings
from inventory.topics import ALL_TOPICS, CHANNEL_TOPICS, TopicSpec

_SECONDS = 10.0
_POLL = 0.1


def wanted_topics(conninfo: str) -> tuple[TopicSpec, ...]:
    """The topics of every installation, and those of the channels that there are.

    A default channel may have been removed, and its topic be another channel's now.

    Raises:
        psycopg.Error: Postgres does not say which channels there are.
    """
    usual = (spec for spec in ALL_TOPICS if spec not in CHANNEL_TOPICS)
    return (*usual, *read_channel_topics(conninfo))


def recover_topics(settings: Settings, say: Say) -> None:
    """Create the topics that are missing, and set what is set otherwise; partitions stay.

    Raises:
        StackError: Postgres does not say which channels there are.
        TopicError: a topic has another number of partitions, or Kafka refuses.
        Outage: Kafka does not answer.
    """
    try:
        specs = wanted_topics(settings.conninfo())
    except psycopg.Error as exc:
        raise StackError(
            f"Postgres does not say which channels there are: {' '.join(str(exc).split())}."
        ) from exc
    with kafka_outages(settings.kafka_bootstrap):
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
        for name, changes in _differences(admin, specs).items():
            _set(admin, name, changes)
            say(f"topic {name}: " + ", ".join(f"{k}={v}" for k, v in changes.items()))
        deadline = time.monotonic() + _SECONDS
        # The broker shows what it has taken a moment later.
        while left := _differences(admin, specs):
            if time.monotonic() > deadline:
                raise TopicError(f"Kafka does not show the settings of {', '.join(left)}.")
            time.sleep(_POLL)
    ensure_topics(settings.kafka_bootstrap, specs, settings.partitions, say=say)
    say(f"topics: all {len(specs)} are as they must be")


def _differences(admin: AdminClient, specs: Iterable[TopicSpec]) -> dict[str, dict[str, str]]:
    """What is to be set, by topic; of topics that exist."""
    wanted = {spec.name: spec for spec in specs}
    found = read_topics(admin, wanted)
    changes = {name: to_be_set(wanted[name], topic) for name, topic in found.items()}
    return {name: values for name, values in changes.items() if values}


def _set(admin: AdminClient, topic: str, values: Mapping[str, str]) -> None:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in values.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    futures = admin.incremental_alter_configs([resource], request_timeout=_SECONDS)
    for future in futures.values():
        future.result(_SECONDS)
