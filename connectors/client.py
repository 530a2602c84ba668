"""Kafka Connect's REST interface, as far as Stockwire needs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import stamina

from inventory.errors import ConnectorError

RUNNING = "RUNNING"
FAILED = "FAILED"
STOPPED = "STOPPED"

#: Texts of a 500 that a worker answers while the group settles.
_PASSING = ("rebalanc", "timed out", "forward")


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task's state; `trace` says why it failed in one line, None unless it did."""

    id: int
    state: str
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """A connector's state and its tasks'.

    The connector may say RUNNING while its task has failed, so ask `running`.
    """

    state: str
    worker: str
    tasks: tuple[TaskStatus, ...]
    trace: str | None = None

    @property
    def running(self) -> bool:
        """Whether the connector and every task run, and there is a task."""
        states = {self.state, *(task.state for task in self.tasks)}
        return bool(self.tasks) and states == {RUNNING}

    @property
    def failure(self) -> str | None:
        """What failed and why, or None."""
        if self.state == FAILED:
            return f"connector: {self.trace}"
        failed = (task for task in self.tasks if task.state == FAILED)
        return next((f"task {task.id}: {task.trace}" for task in failed), None)


class ConnectClient:
    """Calls one Connect worker, and waits out a start or a rebalance of up to `patience` seconds.

    Every method raises ConnectorError, with Connect's own message, when Connect refuses the
    request or does not answer in time.
    """

    def __init__(
        self,
        base_url: str,
        *,
        patience: float = 60.0,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        # A PUT makes the plugin connect to its database before Connect answers: 30 s by default.
        # And no proxy of the environment stands between here and a server of ours.
        self._http = httpx.Client(
            base_url=base_url, timeout=timeout, transport=transport, trust_env=False
        )
        self._patience = patience
        self._retrying = stamina.RetryingCaller(
            attempts=None, timeout=patience, wait_initial=0.1, wait_max=2.0, wait_jitter=0.1
        ).on(_passes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def validate(self, name: str, config: Mapping[str, str]) -> list[tuple[str, str]]:
        """What the plugin finds wrong with a configuration, as (key, message)."""
        plugin = config.get("connector.class", "")
        path = f"/connector-plugins/{quote(plugin, safe='')}/config/validate"
        answer = self._call("PUT", path, json={**config, "name": name}).json()
        return [
            (item["value"]["name"], message)
            for item in answer["configs"]
            for message in item["value"]["errors"]
        ]

    def put(self, name: str, config: Mapping[str, str]) -> None:
        """Create the connector, or replace its configuration."""
        self._call("PUT", _path(name, "config"), json=dict(config))

    def get_config(self, name: str) -> dict[str, str] | None:
        """The configuration as it was put, placeholders unresolved; None: no such connector."""
        answer = self._find(_path(name, "config"))
        return None if answer is None else dict(answer)

    def status(self, name: str) -> ConnectorStatus | None:
        """The states of a connector and its tasks; None: no such connector, or none yet."""
        answer = self._find(_path(name, "status"))
        if answer is None:
            return None
        connector = answer["connector"]
        return ConnectorStatus(
            state=connector["state"],
            worker=connector["worker_id"],
            tasks=tuple(
                TaskStatus(task["id"], task["state"], _reason(task.get("trace")))
                for task in answer["tasks"]
            ),
            trace=_reason(connector.get("trace")),
        )

    def restart(self, name: str, *, include_tasks: bool = True, only_failed: bool = True) -> None:
        """Restart the connector's instances; by default those that failed, tasks included."""
        query = {"includeTasks": include_tasks, "onlyFailed": only_failed}
        self._call("POST", _path(name, "restart"), params=query)

    def pause(self, name: str) -> None:
        """Suspend the tasks; they keep their resources, the replication slot among them."""
        self._call("PUT", _path(name, "pause"))

    def stop(self, name: str) -> None:
        """Shut the tasks down; configuration and offsets are kept."""
        self._call("PUT", _path(name, "stop"))

    def resume(self, name: str) -> None:
        """Let a paused or stopped connector run."""
        self._call("PUT", _path(name, "resume"))

    def delete(self, name: str) -> None:
        """Remove the connector; its offsets and its replication slot stay."""
        self._call("DELETE", _path(name))

    def offsets(self, name: str) -> list[dict[str, Any]]:
        """The offsets that Connect has stored; none before the first flush, or after a reset.

        Debezium's hold the WAL position as a number, `lsn`.
        """
        answer = self._find(_path(name, "offsets"))
        found = [] if answer is None else answer["offsets"]
        return [item["offset"] for item in found if item["offset"] is not None]

    def delete_offsets(self, name: str) -> None:
        """Forget how far a stopped connector has read: it begins with a snapshot."""
        self._call("DELETE", _path(name, "offsets"))

    def topics(self, name: str) -> frozenset[str]:
        """The topics that the connector has written to since it was made."""
        answer = self._find(_path(name, "topics"))
        return frozenset() if answer is None else frozenset(answer[name]["topics"])

    def plugins(self) -> frozenset[str]:
        """The classes of the connectors that this worker can run."""
        return frozenset(
            plugin["class"] for plugin in self._call("GET", "/connector-plugins").json()
        )

    def _find(self, path: str) -> Any:
        """The body of a GET, or None where Connect knows nothing by that name."""
        try:
            return self._request("GET", path).json()
        except httpx.HTTPStatusError as exc:
            if exc.response.status_code == HTTPStatus.NOT_FOUND and not _passes(exc):
                return None
            raise _refused(exc) from exc

    def _call(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._request(method, path, **request)
        except httpx.HTTPStatusError as exc:
            raise _refused(exc) from exc

    def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._retrying(self._send, method, path, **request)
        except httpx.TransportError as exc:
            raise ConnectorError(
                f"Kafka Connect at {self._http.base_url} did not answer {method} {path} within "
                f"{self._patience:g} s ({exc}); see whether it runs, and its log."
            ) from exc

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        return self._http.request(method, path, **request).raise_for_status()


def _path(name: str, *rest: str) -> str:
    return "/".join(("/connectors", quote(name, safe=""), *rest))


def _passes(exc: Exception) -> bool:
    """Whether the same request may succeed soon: Connect is starting or rebalancing."""
    if not isinstance(exc, httpx.HTTPStatusError):
        return isinstance(exc, httpx.TransportError)
    response = exc.response
    match response.status_code:
        case HTTPStatus.CONFLICT | HTTPStatus.SERVICE_UNAVAILABLE:
            return True
        case HTTPStatus.INTERNAL_SERVER_ERROR:
            return any(text in response.text for text in _PASSING)
        case HTTPStatus.NOT_FOUND:
            # Until its resources are there, a starting worker answers every path with a page of
            # the web server; "no such connector" comes as JSON.
            return "json" not in response.headers.get("content-type", "")
        case _:
            return False


def _refused(exc: httpx.HTTPStatusError) -> ConnectorError:
    request, response = exc.request, exc.response
    message = response.text
    if "json" in response.headers.get("content-type", ""):
        message = response.json().get("message", message)
    sentence = " ".join(message.split()) or response.reason_phrase
    return ConnectorError(
        f"Kafka Connect refused {request.method} {request.url} ({response.status_code}): {sentence}"
    )


def _reason(trace: str | None) -> str | None:
    """The first line of a stack trace, and its root cause, which often says more."""
    if not trace:
        return None
    first, *others = trace.splitlines()
    causes = [line for line in others if line.startswith("Caused by: ")]
    return f"{first} {causes[-1]}" if causes else first
