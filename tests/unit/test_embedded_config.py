"""Where the embedded stack puts things, and the configuration that it writes."""

import configparser
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from supervisor import events
from supervisor.options import ServerOptions
from supervisor.process import Subprocess
from supervisor.states import ProcessStates

from compose.embedded import Stack, backoff, kafka, redis_server
from compose.embedded.connect import worker_properties
from compose.embedded.jars import JarSet
from compose.embedded.places import APP_ROLE, CHECKOUT, Places, Ports, environment, places
from compose.embedded.supervisord import Program, render, socket_path
from compose.embedded.workers import COMMANDS, WORKERS, worker_program, workers_of
from inventory.errors import StackError
from inventory.settings import Settings

PORTS = Ports(postgres=1001, redis=1002, kafka=1003, controller=1004, connect=1005)


def settings(tmp_path: Path, **overrides: object) -> Settings:
    return Settings(stack_dir=tmp_path, **overrides)  # type: ignore[arg-type]


def test_ports_come_from_the_settings(tmp_path: Path) -> None:
    at = places(settings(tmp_path, kafka_bootstrap="localhost:9000"))
    assert at.ports == Ports(
        postgres=15432, redis=16379, kafka=9000, controller=9001, connect=18083
    )


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("redis_url", "redis://cache.example:6379/0", "STOCKWIRE_REDIS_URL points at the host"),
        ("kafka_bootstrap", "127.0.0.1:1,127.0.0.1:2", "names several brokers"),
        ("connect_url", "http://0.0.0.0:18083", "listens on 127.0.0.1 only"),
        ("connect_url", "http://127.0.0.1:19093", "would both listen on port 19093"),
        ("connect_url", "http://127.0.0.1:19083", "ledger would .* 8 to 13 above Connect's"),
        (
            "connect_url",
            "http://127.0.0.1:65530",
            "none above 65535 .*change STOCKWIRE_CONNECT_URL",
        ),
        ("postgres_dsn", "postgresql://me@127.0.0.1/stockwire", "names me@stockwire"),
        ("postgres_dsn", "postgresql://me@127.0.0.1/x?passfile=%zz", "not a libpq URL"),
    ],
)
def test_settings_that_the_stack_cannot_serve_are_refused(
    tmp_path: Path, setting: str, value: str, says: str
) -> None:
    with pytest.raises(StackError, match=says):
        places(settings(tmp_path, **{setting: value}))


def test_the_environment_reads_back_as_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(tmp_path / "with space", partitions=3, stall_seconds=4, fresh_seconds=2.5)
    for name, value in environment(given, places(given)).items():
        monkeypatch.setenv(name, value)
    read = Settings()
    assert places(read) == places(given)
    assert read.partitions == 3
    assert (read.stall_seconds, read.fresh_seconds, read.health_port) == (4, 2.5, None)
    assert str(read.postgres_dsn) == places(given).dsn(APP_ROLE)


def test_supervisord_reads_back_what_was_written(tmp_path: Path) -> None:
    at = Places(tmp_path / "50% of 'it'", PORTS)
    program = Program(
        "redis",
        ("/opt/a b/redis-server", "--x", "100%"),
        directory=at.root,
        environment={"SECRET": "a,b=c'%(d)s"},
    )
    for directory in (at.log, at.run):
        directory.mkdir(parents=True)
    config = at.run / "supervisord.conf"
    config.write_text(render(at, [program]))

    options = ServerOptions()
    options.realize(["-c", str(config), "-n"])
    [group] = options.process_group_configs
    [read] = group.process_configs
    assert read.name == "redis"
    assert read.command == "'/opt/a b/redis-server' --x 100%"
    assert read.directory == str(at.root)
    assert read.environment["SECRET"] == "a,b=c'%(d)s"
    assert read.stdout_logfile == str(at.log / "redis.log")


def test_a_value_that_supervisord_cannot_read_is_refused(tmp_path: Path) -> None:
    program = Program("redis", ("redis-server",), tmp_path, {"SECRET": 'a"b'})
    with pytest.raises(StackError, match="quote or a line break"):
        render(Places(tmp_path, PORTS), [program])


def test_supervisord_loads_the_bound_of_its_pauses(tmp_path: Path) -> None:
    at = Places(tmp_path, PORTS)
    for directory in (at.log, at.run):
        directory.mkdir(parents=True)
    config = at.run / "supervisord.conf"
    config.write_text(render(at, []))
    options = ServerOptions()
    options.realize(["-c", str(config), "-n"])
    assert backoff.make in {factory for _, factory, _ in options.rpcinterface_factories}


@pytest.mark.parametrize(("failures", "pause"), [(1, 1), (9, 9), (40, backoff.LONGEST_PAUSE)])
def test_a_crash_loop_waits_longer_each_time_and_not_for_ever(
    failures: int, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "callbacks", [])
    backoff.make(None)
    process = Subprocess(SimpleNamespace(name="ledger"))
    process.backoff = failures - 1
    before = time.time()
    process.change_state(ProcessStates.BACKOFF)
    assert before + pause <= process.delay <= time.time() + pause


def test_our_processes_answer_near_connects_port(tmp_path: Path) -> None:
    ports = places(settings(tmp_path)).ports
    assert {worker: ports.of(worker)[0] - 18083 for worker in COMMANDS} == {
        "availability": 8,
        "ledger": 9,
        "auditor": 10,
        "guardian": 11,
        "reservations": 12,
        "checkout": 13,
    }
    for worker in COMMANDS:
        program = worker_program(worker, {"STOCKWIRE_PARTITIONS": "6"}, ports)
        assert program.environment["STOCKWIRE_HEALTH_PORT"] == str(ports.health_of(worker))
        assert program.environment["STOCKWIRE_PARTITIONS"] == "6"


def test_checkouts_are_taken_where_both_services_are_known(tmp_path: Path) -> None:
    services = {"payment_url": "http://127.0.0.1:9001", "shipping_url": "http://127.0.0.1:9002/"}
    for absent in services:
        present = {name: url for name, url in services.items() if name != absent}
        assert workers_of(settings(tmp_path, **present)) == WORKERS
    both = settings(tmp_path, **services)
    assert workers_of(both) == (*WORKERS, "checkout")
    assert Stack(both).parts[-1] == "checkout"
    told = Stack(both).environment()
    assert told["STOCKWIRE_PAYMENT_URL"] == "http://127.0.0.1:9001/"
    assert told["STOCKWIRE_SHIPPING_URL"] == "http://127.0.0.1:9002/"
    assert "STOCKWIRE_PAYMENT_URL" not in Stack(settings(tmp_path)).environment()


@pytest.mark.parametrize("worker", COMMANDS)
def test_every_worker_that_is_started_can_be(worker: str) -> None:
    module, *_ = COMMANDS[worker]
    assert (CHECKOUT / module / "__main__.py").is_file()


def test_no_inet_port_opens_supervisord(tmp_path: Path) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(render(Places(tmp_path, PORTS), []))
    assert "inet_http_server" not in parser.sections()
    assert parser["unix_http_server"]["chmod"] == "0700"


def test_a_deep_stack_dir_has_its_socket_elsewhere(tmp_path: Path) -> None:
    near, deep = Places(Path("/srv/stack"), PORTS), Places(tmp_path / ("x" * 120), PORTS)
    assert socket_path(near) == Path("/srv/stack/run/supervisor.sock")
    assert len(os.fsencode(socket_path(deep))) < 90
    assert socket_path(deep) != socket_path(Places(tmp_path / ("y" * 120), PORTS))


def test_every_kafka_listener_is_on_loopback(tmp_path: Path) -> None:
    properties = kafka.server_properties(Places(tmp_path, PORTS))
    for listener in properties["listeners"].split(","):
        assert listener.split("://")[1].startswith("127.0.0.1:")
    assert properties["auto.create.topics.enable"] == "false"


def test_connect_shows_no_more_than_debeziums_variables(tmp_path: Path) -> None:
    properties = worker_properties(Places(tmp_path, PORTS), JarSet(tmp_path))
    assert properties["listeners"] == "http://127.0.0.1:1005"
    assert properties["config.providers.env.param.allowlist.pattern"] == "^DEBEZIUM_.*"
    assert properties["topic.creation.enable"] == "false"


def test_redis_keeps_everything_and_listens_on_loopback(tmp_path: Path) -> None:
    lines = redis_server.render(Places(tmp_path, PORTS, redis_password='p"w')).splitlines()
    assert {"bind 127.0.0.1", "appendonly yes", "maxmemory-policy noeviction"} <= set(lines)
    assert r'requirepass "p\"w"' in lines


def test_an_old_redis_will_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=5.0.14 sha=0\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(redis_server, "_bundled", lambda: None)
    with pytest.raises(StackError, match=r"No Redis of version 6\.2.*will not do"):
        redis_server.find_server()
