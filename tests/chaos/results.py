"""What the runs found, kept in a file: `docs/reliability.md` is written from it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.chaos.fault import Fault
from tests.chaos.ports import STACK_DIR

LATEST = STACK_DIR / "chaos.json"


class Results:
    """The results of one session; every one is written at once.

    With `go_on` those of earlier sessions are kept until their fault is run again.
    """

    def __init__(
        self, machine: dict[str, str], *, go_on: bool = False, path: Path = LATEST
    ) -> None:
        self._path = path
        self._content: dict[str, Any] = {"faults": {}, "figures": {}}
        if go_on and path.exists():
            self._content = json.loads(path.read_text("utf-8"))
        self._content["machine"] = machine

    def keep(self, fault: Fault, facts: dict[str, object], failures: list[str]) -> None:
        """Keep the run of a fault."""
        self._content["faults"][fault.name] = {
            "what": fault.what,
            "healed_by": fault.healed_by,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "failures": failures,
            **facts,
        }
        self._write()

    def skip(self, fault: Fault, why: str) -> None:
        """Keep why a fault could not run here."""
        self._content["faults"][fault.name] = {
            "what": fault.what,
            "healed_by": fault.healed_by,
            "skipped": why,
        }
        self._write()

    def figure(self, name: str, facts: dict[str, object], target: str, met: bool) -> None:
        """Keep a measurement that is no fault, beside what it should be and whether it was."""
        self._content["figures"][name] = {"facts": facts, "target": target, "met": met}
        self._write()

    def _write(self) -> None:
        self._path.write_text(json.dumps(self._content, indent=1, ensure_ascii=False) + "\n")
