"""What `stockwire audit` says of the auditor that runs."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from typer.testing import CliRunner

from cli.audit import latest
from cli.main import app

FIGURES = {
    "at": "2026-11-21T12:00:00+00:00", "passes": 3, "rows": 15_000, "pass_seconds": 5.0,
    "pass_cpu_seconds": 0.4, "drift": 2, "drifted": 4, "healed": 2, "ghosts": 1, "suspects": 9,
    "waits_for": None,
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
    ],
)
def test_what_else_there_is_to_say(figures, age, said):
    assert latest(figures, age).splitlines()[-1] == said


class Figures:
    """Redis, as far as the command asks it."""

    def __init__(self, drift: int, age: float) -> None:
        at = datetime.now(UTC) - timedelta(seconds=age)
        self._found = orjson.dumps({**FIGURES, "drift": drift, "at": at.isoformat()})

    def __enter__(self) -> "Figures":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def get(self, key: str) -> bytes:
        return self._found


@pytest.fixture
def auditor(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float], None]:
    """What the running one has said, and how many seconds ago."""

    def say(drift: int, age: float) -> None:
        monkeypatch.setattr("cli.audit.Redis.from_url", lambda _: Figures(drift, age))

    return say


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize(("drift", "age", "code"), [(0, 1.0, 0), (2, 1.0, 1), (0, 90.0, 1)])
def test_the_exit_code_says_whether_all_is_known_to_be_well(auditor, options, drift, age, code):
    auditor(drift, age)
    result = CliRunner().invoke(app, ["audit", *options])
    assert result.exit_code == code
    assert ("the auditor does not run" in result.output) == (age > 30)


def test_healing_goes_with_a_look_of_ones_own():
    assert CliRunner().invoke(app, ["audit", "--heal"]).exit_code == 2
