"""The stack's own directory, and the lock that lets one command at a time work on it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from compose.embedded.places import Places
from inventory.errors import StackError
from inventory.settings import PREFIX


@contextmanager
def exclusive(at: Places) -> Iterator[None]:
    """Hold the stack; another command that wants it waits.

    Raises:
        StackError: the directory cannot be made or written.
    """
    make(at)
    with (at.root / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make(at: Places) -> None:
    """Create the directories; logs and generated configuration are the owner's alone.

    Raises:
        StackError: they cannot be made.
    """
    # As root, Postgres's account must be able to pass through to its data.
    passable = 0o711 if os.getuid() == 0 else 0o700
    try:
        at.root.mkdir(mode=passable, parents=True, exist_ok=True)
        at.data.mkdir(mode=passable, exist_ok=True)
        for path in (at.log, at.run, at.temporary):
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise StackError(
            f"The stack cannot write to {at.root} ({exc}); check its owner, or set "
            f"{PREFIX}STACK_DIR to a directory of your own."
        ) from exc
