"""From nothing to workers at work: the order in which the parts need each other."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.status import Status

from compose.embedded.stack import Stack
from connectors.apply import CONNECTOR, CONNECTOR_FILE, apply, load_connector
from connectors.client import ConnectClient
from connectors.topics import ensure_topics
from guard.facts_postgres import open_database, read_stop
from inventory.errors import StackError
from inventory.groups import group_id
from inventory.settings import Settings
from inventory.topics import ALL_TOPICS, STOCK
from sql.migrate import migrate
from stream.worker import AGENTS, client_id

_WORKERS_DEADLINE = 60.0


class Progress:
    """Says what is being done: one changing line on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        """Speak on this console."""
        self._console = console
        self._status: Status | None = None
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, text: str) -> None:
        """Say one thing."""
        if self._status is not None:
            self._status.update(text)
        else:
            self._console.print(
                f"{time.monotonic() - self._started:5.1f}s  {text}", highlight=False
            )


def bring_up(settings: Settings, console: Console) -> Stack:
    """Start what does not run yet, and return when everything answers and works.

    Raises:
        StackError: a part did not come up in time; the text names it and shows its log's end.
        ConnectorError: Connect refused the connector, or its task failed.
    """
    started = time.monotonic()
    stack = Stack(settings)
    stack.install(console)
    with Progress(console) as say:
        stack.start_servers(say)
        prepare(settings, say)
        say("starting the workers")
        stack.start_workers()
        _wait_for_workers(stack, settings)
    console.print(f"Stockwire is up ({time.monotonic() - started:.1f} s).", highlight=False)
    return stack


def prepare(settings: Settings, say: Callable[[str], None]) -> None:
    """Bring schema, topics and connector to what this version needs; safe to do again."""
    say("migrating Postgres")
    migrate(settings.conninfo(settings.postgres_admin_user), say)
    say("creating topics")
    ensure_topics(settings.kafka_bootstrap, ALL_TOPICS, settings.partitions, say=say)
    with closing(open_database(settings.conninfo())) as connection:
        stop = read_stop(connection)
    if stop is not None:
        # The guardian stopped it; what it would read until it is stopped again might be stale.
        say(f"the connector stays stopped: {stop.reason}; see `stockwire doctor`")
        return
    say("applying the connector")
    with ConnectClient(str(settings.connect_url)) as client:
        apply(client, CONNECTOR, load_connector(CONNECTOR_FILE), say=say)


def _wait_for_workers(stack: Stack, settings: Settings) -> None:
    """Return once each worker process is a member of its group and all partitions are held.

    Those that only look on are not waited for, nor is freshness: a first snapshot takes its time.
    """
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})
    deadline = time.monotonic() + _WORKERS_DEADLINE
    missing: Mapping[str, str] = {}
    while time.monotonic() < deadline:
        pids = stack.worker_pids()
        missing = {
            agent: reason
            for agent in AGENTS
            if (reason := _not_ready(admin, agent, pids.get(agent), settings.partitions))
        }
        if not missing:
            return
        time.sleep(0.1)
    name, reason = next(iter(missing.items()))
    answer = stack.ask(name)
    said = "" if answer is None or answer.reason is None else f" It says: {answer.reason}."
    raise StackError(
        f"The {name} worker is not ready after {_WORKERS_DEADLINE:.0f} s: {reason}.{said} "
        f"The end of its log ({stack.log_path(name)}):\n{stack.log_tail(name, 20)}"
    )


def _not_ready(admin: AdminClient, agent: str, pid: int | None, partitions: int) -> str | None:
    """Why an agent's group does not work yet, or None."""
    if pid is None:
        return "its process does not run"
    group = group_id(agent)
    try:
        description = admin.describe_consumer_groups([group])[group].result(timeout=10)
    except KafkaException as exc:
        return f"its group cannot be read ({exc})"
    held = {
        (part.topic, part.partition): member.client_id
        for member in description.members
        for part in (member.assignment.topic_partitions if member.assignment else ())
    }
    if client_id(agent, pid) not in held.values():
        return "it holds no partition"
    absent = [number for number in range(partitions) if (STOCK, number) not in held]
    return f"nobody holds partitions {absent} of {STOCK}" if absent else None
