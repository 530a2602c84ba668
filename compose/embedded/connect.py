"""Kafka Connect, with Debezium in a class loader of its own."""

import httpx

from compose.embedded.jars import JarSet
from compose.embedded.java import java
from compose.embedded.kafka import render
from compose.embedded.part import NotAnswering
from compose.embedded.places import CDC_ROLE, DATABASE, HOST, Places
from compose.embedded.postgres import Postgres
from compose.embedded.supervisord import Program

_HEAP_MB = 512
_CONNECTOR = "io.debezium.connector.postgresql.PostgresConnector"


def worker_properties(at: Places, jars: JarSet) -> dict[str, str]:
    """The worker's configuration, in distributed mode."""
    json = "org.apache.kafka.connect.json.JsonConverter"
    return {
        "bootstrap.servers": f"{HOST}:{at.ports.kafka}",
        "group.id": "stockwire-connect",
        "listeners": f"http://{HOST}:{at.ports.connect}",
        "rest.advertised.host.name": HOST,
        "rest.advertised.port": str(at.ports.connect),
        "key.converter": json,
        "key.converter.schemas.enable": "false",
        "value.converter": json,
        "value.converter.schemas.enable": "false",
        "config.storage.topic": "stockwire-connect-configs",
        "config.storage.replication.factor": "1",
        "offset.storage.topic": "stockwire-connect-offsets",
        "offset.storage.replication.factor": "1",
        "offset.storage.partitions": "5",
        "status.storage.topic": "stockwire-connect-status",
        "status.storage.replication.factor": "1",
        "status.storage.partitions": "2",
        "plugin.path": str(jars.plugin_path),
        # Every plugin here has a manifest; searching all classes for others takes seconds.
        "plugin.discovery": "service_load",
        "connector.client.config.override.policy": "All",
        "topic.creation.enable": "false",
        # One worker: nobody else's tasks are waited for. The default leaves the connector without
        # a task for five minutes after the worker was cut off from the broker.
        "scheduled.rebalance.max.delay.ms": "0",
        # What was sent since the last flush is sent again after a crash: the default is a minute.
        "offset.flush.interval.ms": "5000",
        # A connector's configuration says ${env:NAME}, so the REST interface shows no secret.
        "config.providers": "env",
        "config.providers.env.class": (
            "org.apache.kafka.common.config.provider.EnvVarConfigProvider"
        ),
        "config.providers.env.param.allowlist.pattern": "^DEBEZIUM_.*",
    }


class Connect:
    """The Connect worker."""

    name = "connect"

    def __init__(self, at: Places, jars: JarSet, postgres: Postgres) -> None:
        self._at = at
        self._jars = jars
        self._postgres = postgres

    def prepare(self) -> None:
        """Write the worker's configuration."""
        (self._at.data / "connect").mkdir(exist_ok=True)
        properties = worker_properties(self._at, self._jars)
        (self._at.run / "connect.properties").write_text(render(properties))

    def program(self) -> Program:
        """The worker, in the foreground, with what a connector may read from its environment."""
        ports = self._at.ports
        return Program(
            self.name,
            java(
                self._at,
                self._jars.class_path,
                _HEAP_MB,
                "org.apache.kafka.connect.cli.ConnectDistributed",
                str(self._at.run / "connect.properties"),
            ),
            directory=self._at.data / "connect",
            environment={
                "DEBEZIUM_POSTGRES_HOST": HOST,
                "DEBEZIUM_POSTGRES_PORT": str(ports.postgres),
                "DEBEZIUM_POSTGRES_USER": CDC_ROLE,
                "DEBEZIUM_POSTGRES_PASSWORD": self._postgres.password(CDC_ROLE),
                "DEBEZIUM_POSTGRES_DATABASE": DATABASE,
                "DEBEZIUM_KAFKA_BOOTSTRAP": f"{HOST}:{ports.kafka}",
                "DEBEZIUM_PARTITIONS": str(self._at.partitions),
            },
        )

    def check(self) -> None:
        """Ask for the plugins, and find Debezium's connector among them."""
        url = f"http://{HOST}:{self._at.ports.connect}"
        try:
            with httpx.Client(base_url=url, timeout=2, trust_env=False) as client:
                client.get("/").raise_for_status()
                plugins = client.get("/connector-plugins").raise_for_status().json()
        except httpx.HTTPError as exc:
            raise NotAnswering(f"an answer from {url} ({exc})") from exc
        if _CONNECTOR not in {plugin["class"] for plugin in plugins}:
            raise NotAnswering(f"{_CONNECTOR} among the plugins of {url}")
