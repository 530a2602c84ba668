"""What `stockwire audit` says of the auditor that runs."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from typer.testing import CliRunner

from audit.report import AuditReport, Difference, PlaceReport
from cli.audit import as_json_text, latest
from cli.main import app

FIGURES = {
    "at": "2026-11-21T12:00:00+00:00", "passes": 3, "rows": 15_000, "pass_seconds": 5.0,
    "pass_cpu_seconds": 0.4, "drift": 2, "drifted": 4, "healed": 2, "ghosts": 1, "suspects": 9,
    "waits_for": None, "blind": None, "blind_since": None,
}  # fmt: skip


NO_PASS = {**FIGURES, "passes": 0, "drift": 0}
BLIND = {
    **FIGURES, "drift": 0, "blind": "3 suspects wait for Redis",
    "blind_since": "2026-11-21T11:58:00+00:00",
}  # fmt: skip


def test_the_figures_for_people():
    assert latest(FIGURES, 1.0).splitlines() == [
        "drift: 2 SKUs of 15,000 rows",
        "last pass: 5.0 s, 0.4 s of a core; 3 passes",
        "healed: 2 SKUs, 1 of them ghosts; suspects: 9",
    ]


@pytest.mark.parametrize(
    ("figures", "age", "said"),
    [
        ({**FIGURES, "waits_for": "Redis"}, 1.0, "suspects wait for Redis"),
        (FIGURES, 90.0, "said 90 s ago: the auditor does not run (`make status`)"),
        (NO_PASS, 1.0, "no pass yet: not everything was looked at since the auditor started"),
        (BLIND, 1.0, "cannot judge since 2026-11-21T11:58:00+00:00: 3 suspects wait for Redis"),
    ],
)
def test_what_else_there_is_to_say(figures, age, said):
    assert latest(figures, age).splitlines()[-1] == said


class Figures:
    """Redis, as far as the command asks it."""

    def __init__(self, figures: dict[str, object] | None, age: float) -> None:
        at = datetime.now(UTC) - timedelta(seconds=age)
        self._found = figures and orjson.dumps({**figures, "at": at.isoformat()})

    def __enter__(self) -> "Figures":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def get(self, key: str) -> bytes | None:
        return self._found


@pytest.fixture
def auditor(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, object] | None, float], None]:
    """What the running one has said, and how many seconds ago."""

    def say(figures: dict[str, object] | None, age: float) -> None:
        monkeypatch.setattr("cli.audit.Redis.from_url", lambda _: Figures(figures, age))

    return say


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize(
    ("figures", "age", "code", "said"),
    [
        ({**FIGURES, "drift": 0}, 1.0, 0, ""),
        (FIGURES, 1.0, 1, ""),
        ({**FIGURES, "drift": 0}, 90.0, 3, "the auditor does not run"),
        (FIGURES, 90.0, 1, "the auditor does not run"),
        (NO_PASS, 1.0, 3, "no pass yet"),
        (BLIND, 1.0, 3, "cannot judge since 2026-11-21T11:58:00"),
        (None, 1.0, 3, "No auditor has said anything yet"),
    ],
)
def test_the_exit_code_says_whether_all_is_known_to_be_well(
    auditor, options, figures, age, code, said
):
    auditor(figures, age)
    result = CliRunner().invoke(app, ["audit", *options])
    assert result.exit_code == code
    assert said in result.output
    assert bool(said) == any(w in result.output for w in ("no pass", "cannot", "auditor"))


def test_the_exit_codes_are_in_the_help():
    text = " ".join(CliRunner().invoke(app, ["audit", "--help"]).output.split())
    assert "Exit code 0 without drift, 1 with any, 2 for wrong options, and 3 when" in text


def test_healing_goes_with_a_look_of_ones_own():
    assert CliRunner().invoke(app, ["audit", "--heal"]).exit_code == 2


def test_a_version_of_any_length_can_be_shown():
    false = Difference("redis stock", "S", "W", {"version": 8}, {"version": 10**30})
    place = PlaceReport("redis stock", 1, 1, 0, (false,))
    shown = json.loads(as_json_text(AuditReport(1, 1, 0, (place,))))
    assert shown["examples"][0]["found"] == {"version": 10**30}
