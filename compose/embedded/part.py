"""What every server of the stack has in common."""

from typing import Protocol

from compose.embedded.supervisord import Program


class NotAnswering(Exception):  # noqa: N818 - a state that passes, not an error
    """A server does not answer yet; the text says what was awaited."""


class Part(Protocol):
    """A server of the stack.

    `prepare` does what must be done before it starts (configuration; the first time, its data),
    and may be repeated. `check` raises NotAnswering until the server does its work.
    """

    @property
    def name(self) -> str: ...

    def prepare(self) -> None: ...

    def program(self) -> Program: ...

    def check(self) -> None: ...
