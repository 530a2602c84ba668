"""The whole stack as child processes of `supervisor`, from wheels and jars alone."""

from compose.embedded.stack import PartStatus, Stack

__all__ = ["PartStatus", "Stack"]
