from pathlib import Path

import pytest

from connectors.apply import Outcome, apply, load_connector
from connectors.client import ConnectClient, ConnectorStatus, TaskStatus
from inventory.errors import ConnectorError

NAME = "inventory"
CONFIG = {"connector.class": "x.Y", "a": "1"}


class FakeConnect(ConnectClient):
    """One connector in memory; `trouble` counts the starts that end in FAILED."""

    def __init__(self, config: dict[str, str] | None = None, trouble: int = 0) -> None:
        super().__init__("http://fake")
        self.config = config
        self.state = "RUNNING"
        self.calls: list[str] = []
        self.problems: list[tuple[str, str]] = []
        self.trouble = trouble

    def validate(self, name, config):
        return self.problems

    def get_config(self, name):
        return self.config

    def put(self, name, config):
        self.calls.append("put")
        self.config = dict(config)

    def stop(self, name):
        self.calls.append("stop")
        self.state = "STOPPED"

    def resume(self, name):
        self.state = "RUNNING"

    def restart(self, name, *, include_tasks=True, only_failed=True):
        self.calls.append("restart")
        self.trouble -= 1

    def status(self, name):
        if self.config is None:
            return None
        if self.state == "STOPPED":
            return ConnectorStatus("STOPPED", "w", ())
        task = TaskStatus(0, "FAILED", "no password") if self.trouble else TaskStatus(0, "RUNNING")
        return ConnectorStatus("RUNNING", "w", (task,))


def silent(_: str) -> None: ...


def test_a_new_connector_is_put() -> None:
    connect = FakeConnect()
    assert apply(connect, NAME, CONFIG, say=silent).outcome is Outcome.CREATED
    assert connect.config == {**CONFIG, "name": NAME}


def test_the_same_configuration_is_left_alone() -> None:
    connect = FakeConnect({**CONFIG, "name": NAME})
    assert apply(connect, NAME, CONFIG, say=silent).outcome is Outcome.UNCHANGED
    assert connect.calls == []


def test_the_old_tasks_are_gone_before_a_new_configuration_is_put() -> None:
    connect = FakeConnect({**CONFIG, "name": NAME, "a": "0"})
    assert apply(connect, NAME, CONFIG, say=silent).outcome is Outcome.UPDATED
    assert connect.calls == ["stop", "put"]
    assert connect.state == "RUNNING"


def test_a_task_that_had_failed_is_restarted() -> None:
    connect = FakeConnect({**CONFIG, "name": NAME}, trouble=1)
    said: list[str] = []
    assert apply(connect, NAME, CONFIG, say=said.append).status.running
    assert "no password" in said[-1]


def test_a_task_that_fails_again_is_an_error() -> None:
    connect = FakeConnect({**CONFIG, "name": NAME}, trouble=2)
    with pytest.raises(ConnectorError, match="task 0: no password"):
        apply(connect, NAME, CONFIG, say=silent)
    assert connect.calls == ["restart"]


def test_an_invalid_configuration_is_not_put() -> None:
    connect = FakeConnect()
    connect.problems = [("a", "is odd")]
    with pytest.raises(ConnectorError, match="a: is odd"):
        apply(connect, NAME, CONFIG, say=silent)
    assert connect.config is None


def test_the_deadline_tells_the_state() -> None:
    class NoTask(FakeConnect):
        def status(self, name):
            return ConnectorStatus("RUNNING", "w", ())

    with pytest.raises(ConnectorError, match="it is RUNNING, without a task"):
        apply(NoTask(), NAME, CONFIG, timeout=0, say=silent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a bare configuration"),
        ('{"name": "inventory", "config": {}}', "is not a bare configuration"),
        ('{"connector.class": "x", "tasks.max": 1}', "tasks.max = 1; .* put it in quotes"),
    ],
)
def test_a_bad_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "c.json"
    file.write_text(text)
    with pytest.raises(ConnectorError, match=message):
        load_connector(file)


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match=r"Cannot read .*nix\.json: No such file"):
        load_connector(tmp_path / "nix.json")
