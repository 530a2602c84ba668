"""Measured figures beside their targets, as a table to read and as JSON to compare."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

#: Where the figures of the last run are.
LATEST = Path(__file__).parent / "results" / "latest.json"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        scenario: what was done.
        name: what was measured.
        unit: `ms`, `MB` (of 2^20 bytes), `changes/s`, …
        at_most: the target, if it is a ceiling.
        at_least: the target, if it is a floor.
    """

    scenario: str
    name: str
    value: float | None
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.at_most is None and self.at_least is None:
            return None
        if self.value is None:
            return False
        ceiling = float("inf") if self.at_most is None else self.at_most
        floor = float("-inf") if self.at_least is None else self.at_least
        return floor <= self.value <= ceiling

    @property
    def target(self) -> str:
        """The target to read, empty without one."""
        if self.at_most is not None:
            return f"≤ {self.at_most:,.0f} {self.unit}"
        return "" if self.at_least is None else f"≥ {self.at_least:,.0f} {self.unit}"

    @property
    def measured(self) -> str:
        """The value to read."""
        if self.value is None:
            return "-"
        digits = 1 if isinstance(self.value, float) and abs(self.value) < 100 else 0
        return f"{self.value:,.{digits}f} {self.unit}"


def markdown(figures: Sequence[Figure], machine: Mapping[str, str]) -> str:
    """A table, and the machine below it."""
    rows = ["| scenario | figure | measured | target | |", "|---|---|---:|---:|---|"]
    marks = {None: "", True: "met", False: "**missed**"}
    rows += [
        f"| {f.scenario} | {f.name} | {f.measured} | {f.target} | {marks[f.met]} |" for f in figures
    ]
    described = ", ".join(f"{name} {value}" for name, value in machine.items())
    return "\n".join([*rows, "", f"{described}."])


def write_json(figures: Sequence[Figure], machine: Mapping[str, str], path: Path) -> None:
    """Write everything to a file."""
    content = {
        "machine": dict(machine),
        "figures": [asdict(figure) | {"met": figure.met} for figure in figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
