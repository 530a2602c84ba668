"""The stack as a whole, in a directory and on ports of its own: one start, in order."""

import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import httpx
import psutil
import psycopg
import pytest
from redis import Redis

from compose.embedded import Stack, processes
from compose.embedded.jars import jar_set
from compose.embedded.kafka import Kafka
from compose.embedded.places import JARS, places
from compose.embedded.postgres import Postgres
from inventory.errors import StackError
from inventory.settings import Settings, load_settings
from tests.polling import eventually

pytestmark = pytest.mark.integration

SERVERS = ("postgres", "redis", "kafka", "connect")


def free_ports() -> list[int]:
    """Postgres, Redis, Kafka (with its controller's port above it) and Connect.

    Below 32768: from there on, any client's connection may hold a port for a while.
    """
    for base in range(27_000, 31_000, 10):
        ports = [base, base + 1, base + 2, base + 4]
        with ExitStack() as held:
            try:
                for port in (*ports, base + 3):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return ports
    raise AssertionError("no five free ports between 27000 and 31000")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    # A percent sign and a space, for what must be quoted; pytest's directories are mode 0700, so
    # that as root Postgres and its data have to be placed elsewhere.
    directory = tmp_path_factory.mktemp("stack") / "100% of it"
    postgres, redis, kafka, connect = free_ports()
    return Settings.model_validate(
        {
            "stack_dir": directory,
            "postgres_dsn": f"postgresql://stockwire_app@127.0.0.1:{postgres}/stockwire"
            f"?passfile={quote(str(directory))}/pgpass",
            "redis_url": f"redis://127.0.0.1:{redis}/0",
            "kafka_bootstrap": f"127.0.0.1:{kafka}",
            "connect_url": f"http://127.0.0.1:{connect}",
        }
    )


@pytest.fixture(scope="module")
def embedded(own: Settings) -> Iterator[Stack]:
    stack = Stack(own)
    stack.install()
    stack.start_servers()
    yield stack
    stack.reset()
    assert not own.stack_dir.exists()
    assert not living(own)


def living(own: Settings) -> list[psutil.Process]:
    at = places(own)
    return processes.find(at, Postgres(at).data)


def pids(stack: Stack) -> dict[str, int | None]:
    return {status.part: status.pid for status in stack.status()}


def test_every_server_answers(embedded: Stack, own: Settings) -> None:
    status = {part.part: part for part in embedded.status()}
    assert all(status[name].answers and status[name].state == "RUNNING" for name in SERVERS)
    assert not status["availability"].answers
    with psycopg.connect(own.conninfo(), autocommit=True) as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    assert sum(part.resident_mb for part in status.values()) < 2500


def test_every_port_is_on_loopback_only(embedded: Stack, own: Settings) -> None:
    listening = [
        connection.laddr
        for process in living(own)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} >= {
        port for part in SERVERS for port in places(own).ports.of(part)
    }
    assert {address.ip for address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_login_without_the_password_is_refused(embedded: Stack, own: Settings) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(own.conninfo("postgres"), passfile="/nonexistent")
    mode = stat.S_IMODE((own.stack_dir / "pgpass").stat().st_mode)
    assert mode == 0o600


def test_debezium_reads_its_secrets_from_the_environment_and_no_others(
    embedded: Stack, own: Settings
) -> None:
    name = "io.debezium.connector.postgresql.PostgresConnector"
    config = {
        "connector.class": name,
        "name": "probe",
        "topic.prefix": "probe",
        "plugin.name": "pgoutput",
        "database.hostname": "${env:DEBEZIUM_POSTGRES_HOST}",
        "database.port": "${env:DEBEZIUM_POSTGRES_PORT}",
        "database.user": "${env:DEBEZIUM_POSTGRES_USER}",
        "database.password": "${env:DEBEZIUM_POSTGRES_PASSWORD}",
        "database.dbname": "${env:DEBEZIUM_POSTGRES_DATABASE}",
    }
    url = f"{own.connect_url}connector-plugins/{name}/config/validate"

    def errors(config: dict[str, str]) -> int:
        # Validation logs in to Postgres, so that no error means the secret was right.
        count = httpx.put(url, json=config, timeout=30).raise_for_status().json()["error_count"]
        assert isinstance(count, int)
        return count

    assert errors(config) == 0
    assert errors({**config, "database.password": "${env:PATH}"}) > 0


def test_a_second_start_changes_nothing(embedded: Stack) -> None:
    before = pids(embedded)
    embedded.start_servers()
    assert pids(embedded) == before


def test_the_environment_leads_to_this_stack(
    embedded: Stack, own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in embedded.environment().items():
        monkeypatch.setenv(name, value)
    assert places(load_settings()) == places(own)


def test_a_killed_server_comes_back_by_itself(embedded: Stack) -> None:
    killed = embedded.kill("redis")

    def back() -> bool:
        redis = next(part for part in embedded.status() if part.part == "redis")
        return redis.answers and redis.pid != killed

    assert eventually(back)


def test_a_taken_port_is_a_sentence(embedded: Stack, own: Settings) -> None:
    embedded.stop_part("redis")
    port = places(own).ports.redis
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(StackError, match=f"Port {port}, where redis would listen, is held by"),
    ):
        embedded.start_servers()
    embedded.start_part("redis")


def test_after_a_power_cut_a_start_recovers_with_the_data(embedded: Stack, own: Settings) -> None:
    with psycopg.connect(own.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with Redis.from_url(str(own.redis_url)) as redis:
        redis.set("kept", "42")
        # The file is synced each second; a killed process loses nothing that it has written.
        eventually(lambda: redis.info("persistence")["aof_last_write_status"] == "ok")
    # supervisord first, or it would start the others again.
    for process in sorted(living(own), key=lambda p: "supervisor.supervisord" not in p.cmdline()):
        process.kill()
    eventually(lambda: not living(own))

    embedded.start_servers()
    with psycopg.connect(own.conninfo("postgres")) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    with Redis.from_url(str(own.redis_url)) as redis:
        assert redis.get("kept") == b"42"


def test_orphans_of_a_killed_supervisord_are_ended_before_a_start(
    embedded: Stack, own: Settings
) -> None:
    before = pids(embedded)
    [supervisord] = [p for p in living(own) if "supervisor.supervisord" in p.cmdline()]
    supervisord.kill()
    said: list[str] = []
    embedded.start_servers(said.append)
    assert "ended what an earlier run had left behind" in said
    after = pids(embedded)
    assert all(after[name] != before[name] for name in SERVERS)


def test_stop_leaves_no_process_and_keeps_the_data(embedded: Stack, own: Settings) -> None:
    ours = living(own)
    embedded.stop()
    assert not living(own)
    # A zombie whose new parent reaps nobody holds nothing.
    assert not [p for p in ours if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert Path(own.stack_dir, "pgpass").exists()
    embedded.stop()


def test_kafka_takes_a_cluster_id_that_begins_with_a_dash(
    own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = places(own.model_copy(update={"stack_dir": tmp_path}))
    for directory in (at.data, at.run):
        directory.mkdir(parents=True, exist_ok=True)
    one_in_64 = UUID(bytes=b"\xfb" + bytes(15))
    monkeypatch.setattr("compose.embedded.kafka.uuid.uuid4", lambda: one_in_64)
    Kafka(at, jar_set(JARS)).prepare()
    assert "cluster.id=-w" in (at.data / "kafka" / "meta.properties").read_text()
