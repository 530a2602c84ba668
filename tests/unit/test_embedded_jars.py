"""Jars are installed whole and verified, or not at all."""

import hashlib
import shutil
from pathlib import Path

import pytest
from jgo.maven import Artifact

from compose.embedded import jars
from inventory.errors import StackError


def write_lock(path: Path, contents: dict[str, bytes]) -> None:
    entries = [
        f'[[dependencies]]\ngroupId = "g"\nartifactId = "{name}"\nversion = "1"\n'
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nplacement = "class-path"\n'
        for name, content in contents.items()
    ]
    path.write_text("\n".join(entries))


def served(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> list[str]:
    """Stand in for the network: `contents` are what it serves. Returns what was asked for."""
    asked = []

    def resolve(artifact: Artifact) -> Path:
        asked.append(artifact.artifactId)
        path: Path = artifact.cached_path
        path.parent.mkdir(parents=True)
        path.write_bytes(contents[artifact.artifactId])
        return path

    monkeypatch.setattr(Artifact, "resolve", resolve)
    return asked


def test_the_checked_in_lock_is_complete_and_names_no_host() -> None:
    locked = jars.read_lock()
    assert {jar.placement for jar in locked} == {jars.CLASS_PATH, jars.PLUGIN_PATH}
    assert all(len(jar.sha256) == 64 for jar in locked)
    versions = {jar.artifact: jar.version for jar in locked}
    assert versions["kafka_2.13"] == versions["kafka-clients"] == "4.3.1"
    assert versions["debezium-connector-postgres"] == "3.7.0.Final"
    assert "://" not in jars.LOCK.read_text()


def test_debezium_is_kept_out_of_the_class_path() -> None:
    on_class_path = [jar for jar in jars.read_lock() if jar.placement == jars.CLASS_PATH]
    assert not [jar for jar in on_class_path if jar.group == "io.debezium"]


def test_a_jar_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "lock.toml"
    write_lock(lock, {"a": b"good", "b": b"good"})
    served(monkeypatch, {"a": b"good", "b": b"evil"})
    with pytest.raises(StackError, match=r"b-1\.jar is refused"):
        jars.install(tmp_path / "jars", lambda *_: None, lock)
    assert not list((tmp_path / "jars").rglob("b-1.jar"))


def test_an_interrupted_install_goes_on_and_a_complete_one_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, root = tmp_path / "lock.toml", tmp_path / "jars"
    contents = {"a": b"1", "b": b"2", "c": b"3"}
    write_lock(lock, contents)
    asked = served(monkeypatch, contents)
    told: list[tuple[int, int]] = []

    installed = jars.install(root, lambda done, total, _: told.append((done, total)), lock)
    assert told == [(1, 3), (2, 3), (3, 3)]
    (installed.class_path / "b-1.jar").unlink()
    asked.clear()
    told.clear()

    jars.install(root, lambda done, total, _: told.append((done, total)), lock)
    jars.install(root, lambda done, total, _: told.append((done, total)), lock)
    assert asked == ["b"]
    assert told == [(3, 3)]


def test_another_lock_is_another_set(tmp_path: Path) -> None:
    one, two = tmp_path / "1.toml", tmp_path / "2.toml"
    write_lock(one, {"a": b"1"})
    write_lock(two, {"a": b"2"})
    assert jars.jar_set(tmp_path, one) != jars.jar_set(tmp_path, two)


def test_a_broken_lock_is_a_sentence(tmp_path: Path) -> None:
    lock = tmp_path / "lock.toml"
    shutil.copy(jars.LOCK, lock)
    lock.write_text(lock.read_text().replace("sha256", "md5", 1))
    with pytest.raises(StackError, match="is not a lock of jars"):
        jars.read_lock(lock)
