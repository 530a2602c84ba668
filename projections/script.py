"""Our Lua scripts: Redis runs each as one step, and knows it by its digest."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import TypeAlias

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = Sequence[Argument]


class Script:
    """A script in the folder `scripts` of a package, by its file's name.

    Redis keeps scripts in memory only: after a restart or SCRIPT FLUSH a call is answered with
    NOSCRIPT, and `load` comes first.
    """

    def __init__(self, name: str, package: str = "projections") -> None:
        self.source = files(package).joinpath("scripts", name).read_bytes()
        self.digest = sha1(self.source, usedforsecurity=False).hexdigest()

    @property
    def load(self) -> Command:
        """The command that has Redis know the script."""
        return ("SCRIPT", "LOAD", self.source)

    def call(self, keys: Sequence[str | bytes], *arguments: Argument) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)
