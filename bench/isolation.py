"""One channel's topic refuses for a while: what the others feel, and when it is complete again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from bench.background import loading
from bench.observers import Report, observing
from bench.policy_edits import PolicyEdits
from bench.scenarios import PATIENCE, WAREHOUSES, Bench
from bench.workload import WorkloadPlan
from inventory.errors import Outage
from stockwire_client.names import channel_topic

#: It shares a worker and its projection with web, which is the one to be spared.
CHANNEL = "app"

_TIMEOUT_SECONDS = 30
#: Bytes; the headers of a message alone are more.
_TOO_SMALL = "100"


@dataclass(frozen=True, slots=True)
class Isolation:
    """The same load while all topics take messages, and while one does not.

    Attributes:
        refused_seconds: how long its topic refused.
        healed_seconds: from the moment it took messages again until the channel had all of them.
    """

    channel: str
    changes_per_second: float
    refused_seconds: float
    healed_seconds: float
    before: Report
    during: Report


def isolation(bench: Bench, rate: float, seconds: float, skus: int = 5_000) -> Isolation:
    """An even load; after so many seconds one topic refuses for as many, and heals."""
    bench.say(f"{rate:,.0f} changes/s, and {CHANNEL} refuses for {seconds:.0f} s")
    end = bench.backlog.end()
    plan = WorkloadPlan(skus=skus, warehouses=WAREHOUSES)
    environment = bench.stack.environment()
    with (
        PolicyEdits.opened(bench.settings, PATIENCE) as policies,
        loading(bench.settings.conninfo(), plan, changes_per_second=rate, duration=None) as run,
    ):
        with observing(environment) as observers:
            run.wait(seconds)
            before = observers.finish()
        with observing(environment) as observers:
            with refusing(bench.settings.kafka_bootstrap, channel_topic(CHANNEL)):
                started = time.monotonic()
                run.wait(seconds)
                during = observers.finish()
                _expect_behind(policies)
            refused_seconds = time.monotonic() - started
        bench.say(f"{CHANNEL} takes messages again")
        healed_seconds = policies.wait_until_told(CHANNEL)
        run.stop()
        load = run.result()
    bench.until_drained(end + load.changes)
    return Isolation(
        CHANNEL, load.changes_per_second, refused_seconds, healed_seconds, before, during
    )


def _expect_behind(policies: PolicyEdits) -> None:
    """A channel that had everything meanwhile would make all other figures meaningless."""
    if not policies.is_behind(CHANNEL):
        raise Outage(f"The topic of {CHANNEL} has refused nothing; nothing was measured.")


@contextmanager
def refusing(bootstrap: str, topic: str) -> Iterator[None]:
    """Inside the context a topic takes no messages: each is too large for it.

    `min.insync.replicas` would not do: Kafka asks for no more replicas than a topic has.

    Raises:
        Outage: Kafka does not answer.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    _set_limit(admin, topic, _TOO_SMALL)
    try:
        yield
    finally:
        _set_limit(admin, topic, None)


def _set_limit(admin: AdminClient, topic: str, limit: str | None) -> None:
    """Bytes of a message at most; None goes back to the broker's own."""
    how = AlterConfigOpType.DELETE if limit is None else AlterConfigOpType.SET
    entry = ConfigEntry("max.message.bytes", limit, incremental_operation=how)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    try:
        (answer,) = admin.incremental_alter_configs([resource]).values()
        answer.result(_TIMEOUT_SECONDS)
    except KafkaException as exc:
        raise Outage(f"{topic} cannot be configured ({exc}); see: make status.") from exc
