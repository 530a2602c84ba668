"""Named queries: SQL kept in `queries/*.sql`, each under a `-- name: …` header."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import LiteralString

from inventory.errors import QueryError

_HEADER = re.compile(r"--\s*name:\s*(?P<name>.*)")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries by name, ready for `psycopg` (`%(name)s` placeholders).

    The files ship with the package, so their text is as trusted as a literal in the code.
    """

    _texts: Mapping[str, LiteralString]

    def __getitem__(self, name: str) -> LiteralString:
        """The text of a query.

        Raises:
            QueryError: there is none of that name.
        """
        try:
            return self._texts[name]
        except KeyError:
            raise QueryError(
                f"There is no query named {name!r}; known are {', '.join(sorted(self._texts))}."
            ) from None

    @property
    def names(self) -> frozenset[str]:
        """All the names."""
        return frozenset(self._texts)


def load_queries() -> Queries:
    """The queries that ship with the package.

    Raises:
        QueryError: a file is malformed, or two queries have one name.
    """
    folder = files("sql").joinpath("queries")
    return parse_queries(
        (entry.name, entry.read_text("utf-8"))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".sql")
    )


def parse_queries(sources: Iterable[tuple[str, str]]) -> Queries:
    """Read queries from files, given as (file name, text).

    A query reaches from its header to the next one. Whole-line comments are left out: psycopg
    would look for placeholders in them.

    Raises:
        QueryError: SQL stands before the first header, a name is malformed or used twice, or a
            query is empty; the text names the file and the line.
    """
    bodies: dict[str, list[str]] = {}
    homes: dict[str, str] = {}
    for file_name, text in sources:
        body: list[str] | None = None
        for number, line in enumerate(text.splitlines(), start=1):
            place = f"{file_name}:{number}"
            if header := _HEADER.match(line):
                name = header["name"].strip()
                if not _NAME.fullmatch(name):
                    raise QueryError(
                        f"{place}: {name!r} cannot be a query's name; use a-z, 0-9 and _."
                    )
                if name in homes:
                    raise QueryError(
                        f"{place}: the query {name} is already defined at {homes[name]}."
                    )
                homes[name] = place
                body = bodies[name] = []
            elif not line.strip() or line.lstrip().startswith("--"):
                continue
            elif body is None:
                raise QueryError(f"{place}: SQL stands before the first `-- name:` header.")
            else:
                body.append(line.rstrip())
    for name, lines in bodies.items():
        if not lines:
            raise QueryError(f"{homes[name]}: the query {name} is empty.")
    return Queries({name: "\n".join(lines) for name, lines in bodies.items()})
