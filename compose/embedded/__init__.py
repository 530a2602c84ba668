"""The whole stack as child processes of `supervisor`, from wheels and jars alone."""

from compose.embedded.stack import Stack
from compose.embedded.status import PartStatus

__all__ = ["PartStatus", "Stack"]
