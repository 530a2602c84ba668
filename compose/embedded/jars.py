"""Kafka's, Connect's and Debezium's jars: downloaded once, verified against the lock."""

import fcntl
import hashlib
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import stamina

from inventory.errors import StackError

LOCK = Path(__file__).with_name("jgo.lock.toml")

#: `placement` in the lock: Kafka's and Connect's class path, or the connector's own class loader.
CLASS_PATH = "class-path"
PLUGIN_PATH = "plugin-path"

_DOWNLOADS = 8
_TIMEOUT_SECONDS = 60

#: Told after each jar: how many are there, how many there will be, and the jar's file name.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """A locked artifact; `sha256` in hex."""

    group: str
    artifact: str
    version: str
    sha256: str
    placement: str

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.artifact}-{self.version}.jar"


@dataclass(frozen=True, slots=True)
class JarSet:
    """An installed set of jars."""

    path: Path

    @property
    def class_path(self) -> Path:
        """The directory with Kafka's and Connect's jars."""
        return self.path / CLASS_PATH

    @property
    def plugin_path(self) -> Path:
        """Connect's `plugin.path`: one directory per plugin."""
        return self.path / PLUGIN_PATH

    def place(self, jar: Jar) -> Path:
        """Where a jar belongs."""
        if jar.placement == PLUGIN_PATH:
            return self.plugin_path / "debezium" / jar.name
        return self.class_path / jar.name


def read_lock(path: Path = LOCK) -> list[Jar]:
    """The jars of a lock file.

    Raises:
        StackError: the file is missing, or an entry lacks a field or its SHA-256.
    """
    try:
        entries = tomllib.loads(path.read_text())["dependencies"]
        return [
            Jar(e["groupId"], e["artifactId"], e["version"], e["sha256"], e["placement"])
            for e in entries
        ]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as exc:
        raise StackError(
            f"{path} is not a lock of jars ({exc!r}); restore it with git, or write it anew with "
            "`python -m compose.embedded.lock`."
        ) from exc


def jar_set(root: Path, lock: Path = LOCK) -> JarSet:
    """The set that belongs to a lock; its directory is named after the lock's content."""
    return JarSet(root / hashlib.sha256(lock.read_bytes()).hexdigest()[:16])


def missing(installed: JarSet, jars: list[Jar]) -> list[Jar]:
    """The jars that are not in place. What is in place was verified when it came there."""
    present = {path for path in installed.path.glob("*/**/*.jar") if path.is_file()}
    return [jar for jar in jars if installed.place(jar) not in present]


def install(root: Path, progress: Progress, lock: Path = LOCK) -> JarSet:
    """Bring the jars of a lock under `root`, each verified; an interrupted install goes on.

    Raises:
        StackError: a jar cannot be fetched or written, or its SHA-256 is not the locked one.
    """
    jars = read_lock(lock)
    installed = jar_set(root, lock)
    if not missing(installed, jars):
        return installed
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _exclusive(root / ".lock"):
            todo = missing(installed, jars)
            _download(installed, todo, len(jars), progress)
    except OSError as exc:
        raise StackError(
            f"The jars cannot be put into {root} ({exc}); check the directory's owner and the "
            "free space, then run the command again."
        ) from exc
    return installed


def _download(installed: JarSet, todo: list[Jar], total: int, progress: Progress) -> None:
    # Beside the goal: a verified jar is put in place by a rename, so there is never half a jar.
    staging = Path(tempfile.mkdtemp(prefix=".download-", dir=installed.path.parent))
    pool = ThreadPoolExecutor(_DOWNLOADS)
    try:
        pending = {pool.submit(_fetch, jar, staging): jar for jar in todo}
        for done, future in enumerate(as_completed(pending), total - len(todo) + 1):
            jar = pending[future]
            goal = installed.place(jar)
            goal.parent.mkdir(parents=True, exist_ok=True)
            future.result().replace(goal)
            progress(done, total, jar.name)
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(staging, ignore_errors=True)


def _fetch(jar: Jar, staging: Path) -> Path:
    # Imported here: an installed set needs no jgo, and its import costs a quarter of a second.
    from jgo.maven import MavenContext

    # A cache of its own per jar: the same jar may be wanted for both placements at once.
    cache = staging / f"{jar.placement}-{jar.name}"
    context = MavenContext(repo_cache=cache, timeout=_TIMEOUT_SECONDS)
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    try:
        # jgo raises RuntimeError for any answer but 200, and leaves half a file on a broken one.
        for attempt in stamina.retry_context(on=(OSError, RuntimeError), attempts=4):
            with attempt:
                shutil.rmtree(cache, ignore_errors=True)
                path: Path = artifact.resolve()
    except (OSError, RuntimeError) as exc:
        raise StackError(
            f"{jar.name} cannot be downloaded ({exc}); check the network and run the command "
            "again: what is already there is kept."
        ) from exc
    verify(path, jar)
    return path


def verify(path: Path, jar: Jar) -> None:
    """Compare a file with the lock.

    Raises:
        StackError: its SHA-256 differs.
    """
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != jar.sha256:
        raise StackError(
            f"{jar.name} is refused: its SHA-256 is {actual} and the lock says {jar.sha256}; run "
            "the command again, and if it stays so, do not trust where it came from."
        )


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Two stacks started at once install one after the other."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
