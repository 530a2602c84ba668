"""Bring a connector of Kafka Connect to the state of its file, and see it run."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from connectors.client import ConnectClient, ConnectorStatus
from inventory.errors import ConnectorError

#: The one connector of this stack and its file.
CONNECTOR = "inventory"
CONNECTOR_FILE = Path(__file__).parent / f"{CONNECTOR}.json"

_POLL_SECONDS = 0.25


class Outcome(StrEnum):
    """What `apply` had to do."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Applied:
    """A connector that now runs, and what it took."""

    outcome: Outcome
    status: ConnectorStatus


def load_connector(path: Path) -> dict[str, str]:
    """Read a connector's configuration: one JSON object whose values are all strings.

    Raises:
        ConnectorError: the file is missing, is not JSON, or has another shape.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConnectorError(f"Cannot read the connector file {path}: {exc.strerror}.") from exc
    except ValueError as exc:
        raise ConnectorError(f"The connector file {path} is not JSON: {exc}.") from exc
    if not isinstance(config, dict) or "connector.class" not in config:
        raise ConnectorError(
            f"The connector file {path} is not a bare configuration: it must be one JSON object "
            'with the key "connector.class" at its top.'
        )
    for key, value in config.items():
        if not isinstance(value, str):
            raise ConnectorError(
                f"The connector file {path} has {key} = {json.dumps(value)}; Kafka Connect takes "
                "strings only, so put it in quotes."
            )
    return config


def apply(
    client: ConnectClient,
    name: str,
    config: Mapping[str, str],
    *,
    timeout: float = 60.0,
    say: Callable[[str], None],
) -> Applied:
    """Validate a configuration, put it where it differs, and wait until all of it runs.

    A connector that already has the configuration is left alone, but resumed if it was paused,
    and restarted once if it had failed.

    Args:
        client: of the Connect cluster.
        name: the connector's; it need not be in the configuration.
        config: all of its configuration, strings only.
        timeout: seconds to wait for RUNNING.
        say: told of each step, in one line.

    Raises:
        ConnectorError: the configuration is invalid, Connect refused it, a task failed, or the
            time ran out.
    """
    problems = client.validate(name, config)
    if problems:
        found = "; ".join(f"{key}: {message}" for key, message in problems)
        raise ConnectorError(f"The configuration of connector {name} is not valid. {found}")
    deadline = time.monotonic() + timeout
    outcome = _put(client, name, {**config, "name": name}, deadline)
    say(f"connector {name}: {outcome}")
    client.resume(name)
    return Applied(outcome, _wait_until_running(client, name, deadline, say))


def _put(client: ConnectClient, name: str, wanted: Mapping[str, str], deadline: float) -> Outcome:
    current = client.get_config(name)
    if current == wanted:
        return Outcome.UNCHANGED
    if current is not None:
        # Connect swaps the tasks some time after it has answered a PUT, and until then shows the
        # old ones RUNNING. Stopped first, whatever runs afterwards has the new configuration.
        client.stop(name)
        _wait_until_stopped(client, name, deadline)
    client.put(name, wanted)
    return Outcome.CREATED if current is None else Outcome.UPDATED


def _wait_until_stopped(client: ConnectClient, name: str, deadline: float) -> None:
    status = client.status(name)
    while status is not None and status.tasks:
        _pause(name, status, deadline)
        status = client.status(name)


def _wait_until_running(
    client: ConnectClient, name: str, deadline: float, say: Callable[[str], None]
) -> ConnectorStatus:
    restarted = False
    while True:
        status = client.status(name)
        if status is not None and status.running:
            return status
        if status is not None and status.failure:
            if restarted:
                raise ConnectorError(f"Connector {name} failed, {status.failure}")
            # The failure may be from before, and its cause gone.
            say(f"connector {name}: {status.failure}; restarting it once")
            client.restart(name)
            restarted = True
        _pause(name, status, deadline)


def _pause(name: str, status: ConnectorStatus | None, deadline: float) -> None:
    """Wait a moment before the next look, or raise ConnectorError when the time is up."""
    if time.monotonic() > deadline:
        raise ConnectorError(
            f"Connector {name} did not get there in time: it is {_described(status)}; see the "
            "log of Kafka Connect."
        )
    time.sleep(_POLL_SECONDS)


def _described(status: ConnectorStatus | None) -> str:
    if status is None:
        return "not known to Kafka Connect"
    tasks = ", ".join(f"task {task.id} {task.state}" for task in status.tasks) or "without a task"
    return f"{status.state}, {tasks}"
