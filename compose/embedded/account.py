"""The account that Postgres runs under, and where that account can read and write.

Postgres refuses to run as root. As root, it runs as an unprivileged account, which often cannot
reach the checkout: it lies under /root, or in a temporary directory of mode 0700, as in most CI
systems. Opening those directories is not ours to do. What the account cannot reach is placed
under /var/tmp instead (it survives a reboot, /tmp does not): a copy of the binaries, and the data.
A symbolic link in the stack's own `data/` leads to it, so that it is found again whatever
becomes reachable later, and `reset` removes both.
"""

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from compose.embedded.places import Places
from inventory.errors import StackError

_CANDIDATES = ("nobody", "daemon", "postgres")

STAGING_PARENT = Path("/var/tmp")  # noqa: S108 - the directory below is checked to be root's own


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account."""

    name: str
    uid: int
    gid: int


def unprivileged() -> Account | None:
    """The account for Postgres; None when this process is not root and needs no other.

    Raises:
        StackError: root, and none of the usual accounts exists.
    """
    if os.getuid() != 0:
        return None
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise StackError(
        "Postgres refuses to run as root, and none of the accounts "
        f"{', '.join(_CANDIDATES)} exists to run it; start the stack as an ordinary user."
    )


def can_reach(directory: Path, account: Account) -> bool:
    """Whether the account may pass through every directory down to this one."""
    for path in (directory, *directory.parents):
        status = path.stat()
        if status.st_uid == account.uid:
            allowed = status.st_mode & stat.S_IXUSR
        elif status.st_gid == account.gid:
            allowed = status.st_mode & stat.S_IXGRP
        else:
            allowed = status.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def can_run(binary: Path, account: Account) -> bool:
    """Whether the account can start a binary, which takes its libraries and their directories."""
    try:
        result = subprocess.run(
            [binary, "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            env={},
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return result.returncode == 0


def staging(at: Places) -> Path:
    """The stack's directory outside the checkout; it may not exist."""
    return STAGING_PARENT / f"stockwire-{at.digest}"


def make_staging(at: Places) -> Path:
    """Create it, passable by all and writable by root alone.

    Raises:
        StackError: it exists and is not root's.
    """
    path = staging(at)
    path.mkdir(mode=0o711, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        raise StackError(
            f"{path} is not a directory of root's alone, and Postgres's data must not go there; "
            "remove it and start again."
        )
    path.chmod(0o711)
    return path


def stage_binaries(at: Places, install: Path, libraries: Path, version: str) -> Path:
    """Copy the Postgres of the wheel, once per version; returns the copy's install directory.

    Both directories keep their place relative to each other: the binaries find their libraries so.
    """
    home = make_staging(at) / f"pgserver-{version}"
    if not home.exists():
        new = home.with_name(home.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(install, new / install.parent.name / install.name, symlinks=True)
        if libraries.exists():
            shutil.copytree(libraries, new / libraries.name, symlinks=True)
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        for path in (new / install.parent.name / install.name / "bin").iterdir():
            path.chmod(0o755)
        new.replace(home)
    return home / install.parent.name / install.name


def give(path: Path, account: Account | None) -> None:
    """Hand a file or directory to the account; nothing to do when it is the caller's own."""
    if account is not None:
        os.chown(path, account.uid, account.gid)
