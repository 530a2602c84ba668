"""Kafka: one node that is broker and KRaft controller at once."""

import base64
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from compose.embedded.jars import JarSet
from compose.embedded.java import java
from compose.embedded.part import NotAnswering
from compose.embedded.places import HOST, Places
from compose.embedded.supervisord import Program, base_environment
from inventory.errors import StackError

_HEAP_MB = 512


def server_properties(at: Places) -> dict[str, str]:
    """The broker's configuration; what is not named keeps Kafka's default."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{at.ports.controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": (
            f"PLAINTEXT://{HOST}:{at.ports.kafka},CONTROLLER://{HOST}:{at.ports.controller}"
        ),
        "advertised.listeners": f"PLAINTEXT://{HOST}:{at.ports.kafka}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(at.data / "kafka"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        # Kafka's 50 would be 50 directories to make at the first commit, and to open at each start.
        "offsets.topic.num.partitions": "10",
        # Where a channel stands is written when it changes, which may be a year ago.
        "offsets.retention.minutes": str(366 * 24 * 60),
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "10",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
    }


def render(properties: Mapping[str, str]) -> str:
    """A Java properties file; a backslash starts an escape there."""
    return "".join(f"{k}={v.replace(chr(92), chr(92) * 2)}\n" for k, v in properties.items())


class Kafka:
    """The broker."""

    name = "kafka"

    def __init__(self, at: Places, jars: JarSet) -> None:
        self._at = at
        self._jars = jars

    @property
    def _config(self) -> Path:
        return self._at.run / "kafka.properties"

    def prepare(self) -> None:
        """Write the configuration, and format the data directory once.

        Raises:
            StackError: it cannot be formatted.
        """
        self._config.write_text(render(server_properties(self._at)))
        data = self._at.data / "kafka"
        # The tool writes this file last: without it, formatting was not finished.
        if (data / "meta.properties").exists():
            return
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # The id in one word: it may begin with a dash.
        tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}")
        result = subprocess.run(
            java(self._at, self._jars.class_path, _HEAP_MB, *tool, "-c", str(self._config)),
            env=base_environment(self._at),
            cwd=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise StackError(f"Kafka cannot format {data}: {result.stdout.strip()[-2000:]}")

    def program(self) -> Program:
        """The broker, in the foreground."""
        return Program(
            self.name,
            java(self._at, self._jars.class_path, _HEAP_MB, "kafka.Kafka", str(self._config)),
            directory=self._at.data / "kafka",
        )

    def check(self) -> None:
        """Ask for the cluster's metadata."""
        # log_level 0: librdkafka would print each refused connection to stderr.
        address = f"{HOST}:{self._at.ports.kafka}"
        client = AdminClient({"bootstrap.servers": address, "log_level": 0})
        try:
            if not client.list_topics(timeout=1).brokers:
                raise NotAnswering(f"a broker in the metadata from {address}")
        except KafkaException as exc:
            raise NotAnswering(f"metadata from {address} ({exc.args[0].str()})") from exc
