"""Writes the table of docs/reliability.md from the results: `python -m tests.chaos.report`."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.chaos.results import LATEST
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- begin: written by `make chaos`, not by hand -->"
END = "<!-- end -->"
_PLACES = ("redis", "web", "wms")


def write(results: Mapping[str, Any], page: Path = PAGE) -> None:
    """Put the tables between the markers of the page; the rest stays.

    Raises:
        ValueError: the page lacks a marker.
    """
    text = page.read_text("utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks one of the markers {BEGIN!r} and {END!r}")
    page.write_text("\n".join([head + BEGIN, "", *tables(results), "", END + tail]), "utf-8")


def tables(results: Mapping[str, Any]) -> Iterator[str]:
    """The page's tables, line by line."""
    yield (
        "| fault | proof that it happened | healed by | down | fresh again: Redis / web / wms "
        "| changes | outbox events (repeated) | told again / overtaken / restarted | dead letters "
        "| drift | all checks |"
    )
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|"
    for found in results["faults"].values():
        yield _skipped(found) if "skipped" in found else _row(found)
    if results["figures"]:
        yield from ("", "| figure | measured |", "|---|---|")
        for name, facts in results["figures"].items():
            told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items())
            yield f"| {name} | {told} |"
    yield ""
    yield "Measured on: " + "; ".join(f"{k} {v}" for k, v in results["machine"].items()) + "."


def _row(found: Mapping[str, Any]) -> str:
    again = " / ".join(_seconds(found["fresh_after_heal"][place]) for place in _PLACES)
    cells = (
        found["what"],
        found["proof"],
        found["healed_by"],
        f"{found['broken_seconds']:.1f} s",
        again,
        f"{found['changes']:,}",
        f"{found['events']:,} ({found['repeated']:,})",
        " / ".join(f"{found[count]:,}" for count in ("told_again", "overtaken", "restarted")),
        f"{found['dead_letters']:,}",
        f"{found['drift']} of {found['rows']:,}",
        "hold" if not found["failures"] else "**" + "; ".join(found["failures"])[:200] + "**",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _skipped(found: Mapping[str, Any]) -> str:
    return f"| {found['what']} | not run here: {found['skipped']} |" + " |" * 9


def _seconds(value: float | None) -> str:
    return "never stale" if value is None else f"{value:.1f} s"


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else LATEST).read_text("utf-8")))
