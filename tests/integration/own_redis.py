"""A Redis server of a test's own, on a port that nothing else uses."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from compose.embedded.redis_server import find_server
from tests.polling import eventually


@contextmanager
def own_redis(directory: Path, port: int, *options: str) -> Iterator[str]:
    """The URL of its database 0."""
    server = subprocess.Popen(
        [
            str(find_server()),
            *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)),
            *("--save", "", *options),
        ],
        stdout=subprocess.DEVNULL,
    )

    def answers() -> bool:
        with Redis(port=port) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False

    try:
        eventually(answers)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()
