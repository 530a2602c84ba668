"""Resolve jgo.toml into jgo.lock.toml: `python -m compose.embedded.lock`, for maintainers.

jgo's own `lock` command would put everything into one class path and download a JDK to tell
modules from plain jars; the stack needs neither.
"""

import tempfile
import tomllib
from pathlib import Path

from jgo.env import LockedDependency, LockFile
from jgo.maven import Dependency, MavenContext

from compose.embedded.jars import CLASS_PATH, LOCK, PLUGIN_PATH

SPEC = LOCK.with_name("jgo.toml")

#: Connect gives these to every plugin; a second copy inside one only wastes a download.
PROVIDED = frozenset(
    {
        "connect-api",
        "kafka-clients",
        "slf4j-api",
        "lz4-java",
        "snappy-java",
        "zstd-jni",
        "jakarta.ws.rs-api",
    }
)


def main() -> None:
    """Write the lock, with a SHA-256 for every jar."""
    coordinates: list[str] = tomllib.loads(SPEC.read_text())["dependencies"]["coordinates"]
    plugin = [c for c in coordinates if c.startswith("io.debezium:")]
    runtime = [c for c in coordinates if c not in plugin]
    with tempfile.TemporaryDirectory() as cache:
        context = MavenContext(repo_cache=Path(cache), timeout=60)
        locked = _lock(context, runtime, CLASS_PATH) + [
            jar for jar in _lock(context, plugin, PLUGIN_PATH) if jar.artifactId not in PROVIDED
        ]
    locked.sort(key=lambda jar: (jar.placement, jar.groupId, jar.artifactId))
    LockFile(locked, environment_name="stockwire").save(LOCK)
    print(f"{LOCK}: {len(locked)} jars")


def _lock(context: MavenContext, coordinates: list[str], placement: str) -> list[LockedDependency]:
    wanted = [context.create_dependency(coordinate) for coordinate in coordinates]
    inputs, transitive = context.resolver.resolve(wanted)
    found: list[Dependency] = inputs + [
        dependency for dependency in transitive if dependency.scope in ("compile", "runtime")
    ]
    locked = [LockedDependency.from_dependency(dependency) for dependency in found]
    for jar in locked:
        jar.placement = placement
    return locked


if __name__ == "__main__":
    main()
