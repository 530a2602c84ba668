"""What `stockwire doctor` prints."""

import io
from dataclasses import replace

import orjson
import pytest
import stamina
from rich.console import Console
from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks
from typer.testing import CliRunner

from cli import doctor
from cli.main import app
from guard.finding import critical, ok, warning

OK = ok("redis", "answers")
WARNING = replace(
    warning("clock", "it is late", "figures mislead", "chronyc tracking"), check="clocks"
)
CRITICAL = replace(
    critical("slot", "it is gone", "changes are lost", "stockwire recover slot"), check="slot"
)


def run(monkeypatch, findings, *options):
    monkeypatch.setattr(doctor, "look", lambda *_: None)
    monkeypatch.setattr(doctor, "examine", lambda _: findings)
    return CliRunner().invoke(app, ["doctor", *options])


@pytest.fixture(autouse=True)
def retry_hooks():
    """What is told of retries, as before for the tests that follow."""
    before = get_on_retry_hooks()
    yield
    set_on_retry_hooks(before)


@pytest.mark.parametrize(
    ("findings", "code"), [([OK], 0), ([OK, WARNING], 1), ([OK, WARNING, CRITICAL], 2)]
)
def test_the_exit_code_is_that_of_the_worst(monkeypatch, findings, code):
    assert run(monkeypatch, findings).exit_code == code


def test_lines_say_what_why_and_what_mends_it_worst_first(monkeypatch):
    lines = run(monkeypatch, [WARNING, OK, CRITICAL]).output.splitlines()
    assert lines[:4] == [
        "critical  slot: it is gone",
        "          why: changes are lost",
        "          mend: stockwire recover slot",
        "          more: docs/runbook.md, slot",
    ]
    assert lines[4] == "warning   clock: it is late"
    assert lines[-1].startswith("1 critical, 1 warnings, of 3 looked at")


def test_when_all_is_well_it_says_where_to_look_next(monkeypatch):
    assert "stockwire audit --once" in run(monkeypatch, [OK]).output


def test_json_has_every_finding(monkeypatch):
    printed = run(monkeypatch, [OK, CRITICAL], "--json").output.splitlines()
    assert [orjson.loads(line)["severity"] for line in printed] == ["ok", "critical"]
    assert orjson.loads(printed[1])["mend"] == "stockwire recover slot"


def test_json_is_nothing_but_json_while_parts_are_asked_again(monkeypatch):
    def look(*_):
        for attempt in stamina.retry_context(on=OSError, attempts=2, wait_initial=0, wait_jitter=0):
            with attempt:
                if attempt.num == 1:
                    raise OSError("no route to it")

    monkeypatch.setattr(doctor, "look", look)
    monkeypatch.setattr(doctor, "examine", lambda _: [CRITICAL])
    printed = CliRunner().invoke(app, ["doctor", "--json"]).stdout
    assert [orjson.loads(line)["subject"] for line in printed.splitlines()] == ["slot"]


def test_a_terminal_gets_a_table():
    console = Console(file=io.StringIO(), force_terminal=True, width=120, markup=False)
    doctor.show([OK, CRITICAL], console)
    assert "stockwire recover slot" in console.file.getvalue()


def test_another_stack_is_not_asked_for_health(settings):
    assert set(doctor.health_ports(settings)) >= {"availability", "ledger", "guardian"}
    elsewhere = settings.model_copy(update={"kafka_bootstrap": "kafka.example:9092"})
    assert doctor.health_ports(elsewhere) == {}
