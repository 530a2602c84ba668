"""Where the stack listens and keeps its files, derived from the settings."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from inventory.errors import StackError
from inventory.settings import PASSFILE, PREFIX, Settings

CHECKOUT = Path(__file__).resolve().parents[2]

#: The jars, shared by every stack of the checkout.
JARS = CHECKOUT / ".jars"

HOST = "127.0.0.1"
DATABASE = "stockwire"
APP_ROLE = "stockwire_app"
CDC_ROLE = "stockwire_debezium"

_LAST_PORT = 65535

#: Which ports are taken that no setting names.
_TAKEN = (
    "Kafka's controller takes the port after the broker's, and our own processes those from 8 to "
    "13 above Connect's"
)

_LOOPBACK = frozenset({"127.0.0.1", "localhost"})


#: Our own processes answer for their health so far above Connect's port.
_HEALTH = {
    "availability": 8,
    "ledger": 9,
    "auditor": 10,
    "guardian": 11,
    "reservations": 12,
    "checkout": 13,
}


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports, all on loopback."""

    postgres: int
    redis: int
    kafka: int
    controller: int
    connect: int

    def of(self, part: str) -> tuple[int, ...]:
        """The ports that a part listens on, the one that it is asked on first."""
        if part == "kafka":
            return (self.kafka, self.controller)
        return (self.health_of(part) if part in _HEALTH else getattr(self, part),)

    def health_of(self, part: str) -> int:
        """Where a process of ours answers for its health."""
        return self.connect + _HEALTH[part]


#: The setting that moves a part to another port; our own processes are near Connect's.
SETTING_OF = {
    "postgres": f"{PREFIX}POSTGRES_DSN",
    "redis": f"{PREFIX}REDIS_URL",
    "kafka": f"{PREFIX}KAFKA_BOOTSTRAP",
    "connect": f"{PREFIX}CONNECT_URL",
    **dict.fromkeys(_HEALTH, f"{PREFIX}CONNECT_URL"),
}


@dataclass(frozen=True, slots=True)
class Places:
    """Ports and directories of one stack; `root` is absolute."""

    root: Path
    ports: Ports
    redis_password: str | None = None
    partitions: int = 6

    @property
    def data(self) -> Path:
        """Each server's data, in a directory by its name, which is also its working directory."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """One log per part, `<part>.log`."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """Generated configuration, sockets and temporary files."""
        return self.root / "run"

    @property
    def temporary(self) -> Path:
        """Temporary files: executables are allowed where the checkout lies, not always in /tmp."""
        return self.run / "tmp"

    @property
    def passfile(self) -> Path:
        """The libpq password file."""
        return self.root / PASSFILE

    @property
    def digest(self) -> str:
        """A short name for this stack, unique on the machine."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:12]

    def dsn(self, user: str, database: str = DATABASE) -> str:
        """A libpq URL of the embedded Postgres, with the password file named in it."""
        return (
            f"postgresql://{quote(user)}@{HOST}:{self.ports.postgres}/{quote(database)}"
            f"?passfile={quote(str(self.passfile))}"
        )


def places(settings: Settings) -> Places:
    """Work out where everything is.

    Raises:
        StackError: a setting is no address, or points away from loopback or at another database
            or role, or two parts share a port.
    """
    root = settings.stack_dir.resolve()
    try:
        dsn = conninfo_to_dict(settings.conninfo())
    except ProgrammingError as exc:
        raise StackError(f"{PREFIX}POSTGRES_DSN is not a libpq URL: {str(exc).strip()}.") from exc
    if (dsn.get("dbname"), dsn.get("user")) != (DATABASE, APP_ROLE):
        raise StackError(
            f"{PREFIX}POSTGRES_DSN names {dsn.get('user')}@{dsn.get('dbname')}, and the embedded "
            f"stack serves {APP_ROLE}@{DATABASE}; change the setting, or use that server as it is."
        )
    if "," in settings.kafka_bootstrap:
        raise StackError(
            f"{PREFIX}KAFKA_BOOTSTRAP={settings.kafka_bootstrap} names several brokers, and the "
            "embedded stack runs one; name one."
        )
    broker_host, _, broker_port = settings.kafka_bootstrap.rpartition(":")
    kafka = int(broker_port)
    redis, connect = settings.redis_url, settings.connect_url
    for part, host in (
        ("postgres", str(dsn.get("host"))),
        ("redis", redis.host or ""),
        ("kafka", broker_host),
        ("connect", connect.host or ""),
    ):
        if host not in _LOOPBACK:
            raise StackError(
                f"{SETTING_OF[part]} points at the host {host}, and the embedded stack listens on "
                f"{HOST} only; change the setting to {HOST}, or use that server as it is."
            )
    ports = Ports(
        postgres=int(str(dsn.get("port") or 5432)),
        redis=redis.port or 6379,
        kafka=kafka,
        controller=kafka + 1,
        connect=connect.port or 80,
    )
    _check_distinct(ports)
    return Places(root, ports, redis.password, settings.partitions)


def environment(settings: Settings, at: Places) -> dict[str, str]:
    """Every `STOCKWIRE_*` variable that leads another process to this stack."""
    values = {
        "POSTGRES_DSN": at.dsn(APP_ROLE),
        "POSTGRES_ADMIN_USER": settings.postgres_admin_user,
        "REDIS_URL": str(settings.redis_url),
        "KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "CONNECT_URL": str(settings.connect_url),
        "STACK_DIR": str(at.root),
        "PARTITIONS": str(settings.partitions),
        "STALL_SECONDS": str(settings.stall_seconds),
        "FRESH_SECONDS": str(settings.fresh_seconds),
    }
    services = {"PAYMENT_URL": settings.payment_url, "SHIPPING_URL": settings.shipping_url}
    values |= {name: str(url) for name, url in services.items() if url is not None}
    return {PREFIX + name: value for name, value in values.items()}


def _check_distinct(ports: Ports) -> None:
    holders: dict[int, str] = {}
    for part, setting in SETTING_OF.items():
        for port in ports.of(part):
            if port in holders:
                raise StackError(
                    f"{holders[port]} and {part} would both listen on port {port} ({_TAKEN}); "
                    f"change {setting}."
                )
            if port > _LAST_PORT:
                raise StackError(
                    f"{part} would listen on port {port}, and there is none above {_LAST_PORT} "
                    f"({_TAKEN}); change {setting}."
                )
            holders[port] = part
