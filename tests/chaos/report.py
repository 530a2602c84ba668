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
#: The cells after the proof, of a fault that has none.
_NOTHING = ("",) * 9


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
        if "skipped" in found:
            yield _line(found["what"], f"not run here: {found['skipped']}", *_NOTHING)
        elif "proof" in found:
            yield _row(found)
        else:
            yield _line(found["what"], "broken off", *_NOTHING[:-1], _verdict(found))
    if results["figures"]:
        yield from ("", "| figure | measured | target | met |", "|---|---|---|---|")
        for name, found in results["figures"].items():
            facts = found["facts"].items()
            told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts)
            yield _line(name, told, found["target"], "yes" if found["met"] else "**no**")
    yield ""
    yield "Measured on: " + "; ".join(f"{k} {v}" for k, v in results["machine"].items()) + "."


def _row(found: Mapping[str, Any]) -> str:
    again = " / ".join(_seconds(found["fresh_after_heal"][place]) for place in _PLACES)
    inherited = f" ({found['inherited']} inherited)" if found.get("inherited") else ""
    return _line(
        found["what"],
        found["proof"],
        found["healed_by"],
        f"{found['broken_seconds']:.1f} s",
        again,
        f"{found['changes']:,}",
        f"{found['events']:,} ({found['repeated']:,})",
        " / ".join(f"{found[count]:,}" for count in ("told_again", "overtaken", "restarted")),
        f"{found['dead_letters']:,}",
        f"{found['drift']} of {found['rows']:,}{inherited}",
        _verdict(found),
    )


def _verdict(found: Mapping[str, Any]) -> str:
    """Whether all checks hold; else the first of what does not, on one line."""
    told = " ".join("; ".join(found["failures"]).split())
    return f"**{told[:200]}**" if told else "hold"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _seconds(value: float | None) -> str:
    return "never stale" if value is None else f"{value:.1f} s"


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else LATEST).read_text("utf-8")))
