"""Everything a fault can reach: the stack behind its proxy, and those who watch it."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import psutil
import psycopg
import redis
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from audit.auditor import Auditor
from bench.load import seed_catalogue
from bench.workload import sku_name
from cli.bringup import _wait_for_workers, prepare
from compose.embedded.servers import trouble
from connectors.apply import CONNECTOR
from connectors.client import ConnectClient
from inventory.groups import group_id
from inventory.topics import STOCK
from sql.migrate import migrate
from tests.chaos.ports import DIRECT, PROXIED
from tests.chaos.probe import WAREHOUSE, Probe, choose
from tests.chaos.proxied_stack import ProxiedStack
from tests.chaos.proxy_control import ProxyControl
from tests.chaos.sales import Sales
from tests.chaos.witness import RedisWitness, TopicWitness
from tests.polling import eventually

SKUS = 300
WAREHOUSES = 3
SEED = 1
_PROBES = [f"PROBE-{n:02}" for n in range(60)]
_PUT_PROBE = """
INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, 0) ON CONFLICT DO NOTHING
"""
_SUPERUSER = "postgres"
_SUPERUSER_OPTIONS = "-c statement_timeout=120s"


class World:
    """The stack, ready to be broken.

    Attributes:
        direct: settings that lead past the proxy.
        settings: settings that lead through it, as all clients go.
    """

    def __init__(self, proxy: ProxyControl) -> None:
        self.proxy = proxy
        self.direct = DIRECT.settings()
        self.settings = PROXIED.settings()
        self.stack = ProxiedStack()

    # What faults and checks ask for.

    def pid(self, part: str) -> int | None:
        """A part's pid; None while it does not run."""
        state = self.stack._states().get(part)
        return state.pid or None if state is not None else None

    def answers(self, part: str) -> bool:
        """Whether a server does its work; for a process of ours, whether it runs."""
        server = self.stack._servers.get(part)
        return self.pid(part) is not None and (server is None or trouble(server) is None)

    def process(self, part: str) -> psutil.Process:
        """A part's main process."""
        return psutil.Process(eventually(lambda: self.pid(part)))

    def members(self, agent: str) -> set[str]:
        """The client ids in an agent's group; the broker must answer."""
        group = group_id(agent)
        # A client of its own each time: one that asked while the broker was away is of no use.
        admin = AdminClient({"bootstrap.servers": self.settings.kafka_bootstrap, "log_level": 0})
        try:
            admin.list_topics(timeout=5)
            found = admin.describe_consumer_groups([group], request_timeout=5)[group].result(10)
        except (KafkaException, TimeoutError) as exc:
            raise AssertionError(f"the broker does not say who is in {group}: {exc}") from exc
        return {member.client_id for member in found.members}

    def wait_for_workers(self) -> None:
        """Return once both workers hold their partitions."""
        _wait_for_workers(self.stack, self.settings)

    def connector_runs(self) -> bool:
        """Whether the connector's task runs."""
        with ConnectClient(str(self.settings.connect_url)) as client:
            status = client.status(CONNECTOR)
        return status is not None and status.running

    def mend(self) -> None:
        """Bring back what an earlier fault may have left broken: a failure is to be told once."""
        for part in self.stack.parts:
            if (pid := self.pid(part)) is not None:
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).resume()
            if not self.answers(part):
                self.stack.start_part(part)
        with ConnectClient(str(self.settings.connect_url)) as client:
            if (status := client.status(CONNECTOR)) is not None and not status.running:
                client.resume(CONNECTOR)
                client.restart(CONNECTOR)

    def facts_of(self, part: str) -> Mapping[str, object]:
        """The figures of a process of ours.

        Raises:
            AssertionError: it does not answer.
        """
        answer = self.stack.ask(part)
        assert answer is not None, f"{part} does not answer"
        return answer.facts

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection]:
        """A connection of Postgres' owner, past the proxy, in autocommit."""
        conninfo = self.direct.conninfo(_SUPERUSER)
        with psycopg.connect(
            conninfo, autocommit=True, connect_timeout=5, options=_SUPERUSER_OPTIONS
        ) as connection:
            yield connection

    def redis(self) -> redis.Redis:
        """A client, past the proxy; to be closed."""
        return redis.Redis.from_url(str(self.direct.redis_url), socket_timeout=5)

    def log_size(self, part: str) -> int:
        """How long a part's log is now; for `logged`."""
        path = self.stack.log_path(part)
        return path.stat().st_size if path.exists() else 0

    def logged(self, part: str, text: str, since: int = 0) -> bool:
        """Whether a part's log has a text, from a position on (or anywhere, once rotated)."""
        path = self.stack.log_path(part)
        if not path.exists():
            return False
        with path.open("rb") as file:
            file.seek(since if since <= path.stat().st_size else 0)
            return text.encode() in file.read()


class Watched(World):
    """A running stack with its probe and its witnesses."""

    def __init__(self, proxy: ProxyControl) -> None:
        super().__init__(proxy)
        self.probe: Probe
        self.topics: TopicWitness
        self.readers: RedisWitness
        self.auditor: Auditor
        self.sales: Sales
        self.first_memory: dict[str, int] = {}
        #: SKUs that nobody writes; each is to be taken by one who spoils it, and not put back.
        self.spares: list[str] = []

    @contextmanager
    def watching(self) -> Iterator["Watched"]:
        """Start the probe and the witnesses."""
        settings = self.settings
        cycled = [f"CYCLE-{lane}-{n:02}" for lane in range(2) for n in range(20)]
        skus = [sku_name(n) for n in range(1, SKUS + 1)] + cycled
        places = (settings.conninfo(), str(settings.redis_url), settings.kafka_bootstrap)
        self.topics = TopicWitness(settings.kafka_bootstrap)
        self.probe = Probe(settings.conninfo(), str(settings.redis_url), self._probe_skus())
        self.topics.probe = self.probe
        self.readers = RedisWitness(str(settings.redis_url), skus)
        self.probe.start()
        try:
            with Auditor.open(*places) as self.auditor:
                yield self
        finally:
            self.probe.stop()
            self.readers.stop()
            self.topics.stop()

    def memory_mb(self) -> dict[str, int]:
        """Resident memory of each part that runs, in MB."""
        return {each.part: each.resident_mb for each in self.stack.status() if each.pid}

    def _probe_skus(self) -> list[str]:
        """Put probes up, and keep one of each partition."""
        with psycopg.connect(self.settings.conninfo(), autocommit=True) as connection:
            connection.cursor().executemany(_PUT_PROBE, [(sku, WAREHOUSE) for sku in _PROBES])
        partitions = self.settings.partitions
        found: dict[str, int] = {}

        def all_found() -> bool:
            found.update(partitions_of(self.settings.kafka_bootstrap, partitions, set(_PROBES)))
            return len(found) == len(_PROBES)

        eventually(all_found)
        chosen = choose(found.get, _PROBES, partitions)
        self.spares = [sku for sku in _PROBES if sku not in chosen]
        return chosen


def partitions_of(bootstrap: str, partitions: int, skus: set[str]) -> dict[str, int]:
    """The partition of each SKU of which the stock topic has a record."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "chaos-look", "enable.auto.commit": False}
    )
    found: dict[str, int] = {}
    try:
        ends = {}
        starts = []
        for number in range(partitions):
            low, high = consumer.get_watermark_offsets(TopicPartition(STOCK, number), timeout=30)
            if high > low:
                ends[number] = high
                starts.append(TopicPartition(STOCK, number, low))
        consumer.assign(starts)
        heard = time.monotonic()
        while ends and time.monotonic() - heard < 5:
            for message in consumer.consume(5000, timeout=0.2):
                if message.error() is not None:
                    continue
                heard = time.monotonic()
                number, key = message.partition(), message.key() or b""
                for sku in skus - found.keys():
                    if f'"{sku}"'.encode() in key:
                        found[sku] = number
                if message.offset() + 1 >= ends.get(number, 0):
                    ends.pop(number, None)
            if len(found) == len(skus):
                return found
    finally:
        consumer.close()
    return found


def keeps_running() -> bool:
    """Whether the stack outlives the session: for work on single faults."""
    return os.environ.get("TEST_STACK") == "running"


@contextmanager
def running_world() -> Iterator[Watched]:
    """The stack, from empty; `TEST_STACK=running` keeps one that is up, and leaves it up."""
    keep = keeps_running()
    proxy = ProxyControl()
    try:
        world = Watched(proxy)
        stack = world.stack
        stack.install()
        if not keep:
            stack.reset()
        try:
            stack.start_servers(print)
            migrate(world.direct.conninfo(world.direct.postgres_admin_user))
            seed_catalogue(world.direct.conninfo(), SKUS, WAREHOUSES, SEED)
            prepare(world.settings, print)
            stack.start_workers()
            world.wait_for_workers()
            with world.watching():
                yield world
        finally:
            # Without the proxy the workers could reach nothing.
            if keep:
                stack.stop_workers()
            else:
                stack.stop()
    finally:
        proxy.close()
