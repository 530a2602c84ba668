"""The embedded stack, with the proxy between all of its parts."""

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import psutil

from compose.embedded import places
from compose.embedded.connect import Connect, worker_properties
from compose.embedded.kafka import Kafka, render, server_properties
from compose.embedded.servers import Say
from compose.embedded.stack import Stack, silent
from compose.embedded.supervisord import Program
from tests.chaos.ports import DIRECT, HOST, PROXIED

#: The name of the directory of the second Postgres, beside that of the first.
SECOND = "postgres.second"


class ProxiedKafka(Kafka):
    """A broker that sends its clients to the proxy."""

    def prepare(self) -> None:
        super().prepare()
        properties = {
            **server_properties(self._at),
            "advertised.listeners": f"PLAINTEXT://{HOST}:{PROXIED.kafka}",
        }
        self._config.write_text(render(properties))


class ProxiedConnect(Connect):
    """A Connect that reaches Kafka and Postgres through the proxy."""

    def prepare(self) -> None:
        super().prepare()
        properties = {
            **worker_properties(self._at, self._jars),
            "bootstrap.servers": f"{HOST}:{PROXIED.kafka}",
        }
        (self._at.run / "connect.properties").write_text(render(properties))

    def program(self) -> Program:
        program = super().program()
        environment = {
            **program.environment,
            "DEBEZIUM_POSTGRES_PORT": str(PROXIED.postgres),
            "DEBEZIUM_KAFKA_BOOTSTRAP": f"{HOST}:{PROXIED.kafka}",
        }
        return replace(program, environment=environment)


class ProxiedStack(Stack):
    """The servers listen on `DIRECT`; everybody talks to `PROXIED`."""

    def __init__(self, worker_environment: Mapping[str, str] | None = None) -> None:
        proxied = PROXIED.settings()
        environment = places.environment(proxied, places.places(proxied))
        super().__init__(
            DIRECT.settings(), worker_environment={**environment, **(worker_environment or {})}
        )
        self._servers["kafka"] = ProxiedKafka(self._at, self._jars)
        self._servers["connect"] = ProxiedConnect(self._at, self._jars, self._postgres)

    def reset(self, say: Say = silent) -> None:
        """Also what a run that was cut short has left: the second Postgres, and the full disk."""
        second = self._postgres.data.with_name(SECOND)
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.name() == "postgres" and process.cwd() == str(second):
                    process.kill()
        self.stop(say)
        if (self._at.data / "kafka").is_mount():
            subprocess.run(["umount", str(self._at.data / "kafka")], check=True)
        super().reset(say)

    @property
    def places(self) -> places.Places:
        """Where its files are."""
        return self._at
