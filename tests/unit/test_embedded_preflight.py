"""What stands in the way is said in a sentence, before anything is started."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from compose.embedded import account, preflight, processes
from compose.embedded.account import Account
from compose.embedded.places import Places, Ports
from inventory.errors import StackError

NOBODY = Account("nobody", uid=65534, gid=65534)


def ports(**taken: int) -> Ports:
    return Ports(**{"postgres": 0, "redis": 0, "kafka": 0, "controller": 0, "connect": 0, **taken})


def test_a_taken_port_names_port_part_holder_and_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StackError) as caught:
            preflight.check_ports(ports(redis=port), ["redis"])
    sentence = str(caught.value)
    assert f"Port {port}, where redis would listen" in sentence
    assert f"process {os.getpid()} " in sentence
    assert "STOCKWIRE_REDIS_URL" in sentence


def test_the_controllers_port_is_checked_and_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StackError, match=r"one above the broker's.*KAFKA_BOOTSTRAP"):
            preflight.check_ports(ports(controller=port), ["kafka"])


def test_ports_of_parts_that_run_are_not_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        preflight.check_ports(ports(redis=server.getsockname()[1]), ["connect"])


#: Listens, and takes a while to die: its last thread gives the memory and then the port back.
MANY_THREADS = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
memory = b"x" * 400_000_000
for _ in range(60):
    threading.Thread(target=threading.Event().wait).start()
print(server.getsockname()[1], flush=True)
"""


@pytest.fixture
def killed() -> Iterator[tuple[psutil.Process, int]]:
    """A process just killed of which only the first thread has gone, and its port."""
    with subprocess.Popen([sys.executable, "-c", MANY_THREADS], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        process = psutil.Process(child.pid)
        process.kill()
        while process.status() != psutil.STATUS_ZOMBIE:
            pass
        yield process, port


def test_a_killed_process_has_not_ended_before_its_last_thread(
    killed: tuple[psutil.Process, int],
) -> None:
    process, port = killed
    assert processes.wait([process], 30) == []
    socket.create_server(("127.0.0.1", port)).close()


def test_a_port_that_a_killed_process_still_holds_is_waited_for(
    killed: tuple[psutil.Process, int],
) -> None:
    preflight.check_ports(ports(kafka=killed[1]), ["kafka"])


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=300 * 1024**2)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(StackError, match=r"Only 0\.3 GiB are free.*needs 1 GiB"):
        preflight.check_disk(tmp_path)


def test_an_ordinary_user_needs_no_other_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert account.unprivileged() is None


def test_root_is_replaced_by_an_account_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    found = account.unprivileged()
    assert found is not None
    assert found.uid != 0


def test_root_without_any_account_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(account, "_CANDIDATES", ("no-such-account",))
    with pytest.raises(StackError, match=r"refuses to run as root.*ordinary user"):
        account.unprivileged()


def test_a_directory_below_a_closed_one_is_out_of_reach(tmp_path: Path) -> None:
    below = tmp_path / "closed" / "open"
    below.mkdir(parents=True)
    below.chmod(0o755)
    below.parent.chmod(0o700)
    assert not account.can_reach(below, NOBODY)


def test_reach_goes_by_owner_group_and_others(tmp_path: Path) -> None:
    below = Path("/")
    assert account.can_reach(below, NOBODY)
    owner = Account("me", uid=tmp_path.stat().st_uid, gid=tmp_path.stat().st_gid)
    tmp_path.chmod(0o077)
    assert not account.can_reach(tmp_path, owner)
    tmp_path.chmod(0o700)


def test_a_binary_that_is_not_there_cannot_be_run(tmp_path: Path) -> None:
    me = Account("me", uid=os.getuid(), gid=os.getgid())
    assert not account.can_run(tmp_path / "postgres", me)


@pytest.mark.skipif(os.getuid() != 0, reason="only root has a staging directory")
def test_a_staging_directory_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "STAGING_PARENT", tmp_path)
    at = Places(tmp_path / "stack", ports())
    made = account.make_staging(at)
    assert made.stat().st_mode & 0o777 == 0o711
    os.chown(made, NOBODY.uid, NOBODY.gid)
    with pytest.raises(StackError, match="not a directory of root's alone"):
        account.make_staging(at)
