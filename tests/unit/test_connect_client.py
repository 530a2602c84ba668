import json
from collections.abc import Callable, Iterator

import httpx
import pytest
import stamina

from connectors.client import ConnectClient, ConnectorStatus, TaskStatus
from inventory.errors import ConnectorError

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=4):
        yield


def client(handler: Handler) -> ConnectClient:
    return ConnectClient("http://connect", transport=httpx.MockTransport(handler))


def answering(*responses: httpx.Response) -> tuple[ConnectClient, list[httpx.Request]]:
    requests: list[httpx.Request] = []
    left = iter(responses)

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return next(left)

    return client(handler), requests


def error(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error_code": status, "message": message})


STARTING = httpx.Response(404, html="<h2>HTTP ERROR 404 Not Found</h2>")
REBALANCE = error(409, "Cannot complete request because of a conflicting operation")
TIMEOUT = error(500, "Request timed out. The worker is currently polling the group coordinator")


@pytest.mark.parametrize("passing", [STARTING, REBALANCE, TIMEOUT, httpx.Response(503)])
def test_a_starting_or_rebalancing_worker_is_asked_again(passing: httpx.Response) -> None:
    connect, requests = answering(passing, passing, httpx.Response(201))
    connect.put("inventory", {"a": "b"})
    assert [(r.method, r.url.path) for r in requests] == [
        ("PUT", "/connectors/inventory/config")
    ] * 3
    assert json.loads(requests[-1].content) == {"a": "b"}


def test_a_refused_connection_is_tried_again() -> None:
    calls = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(202)

    client(handler).resume("inventory")
    assert calls == 3


def test_a_worker_that_never_answers_is_named() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ConnectorError, match=r"http://connect.* did not answer GET"):
        client(handler).status("inventory")


def test_a_rebalance_without_end_is_an_error() -> None:
    connect, requests = answering(*[REBALANCE] * 4)
    with pytest.raises(ConnectorError, match="conflicting operation"):
        connect.get_config("inventory")
    assert len(requests) == 4


def test_a_bad_request_is_not_repeated_and_has_connects_own_words() -> None:
    connect, requests = answering(error(400, "Connector configuration\nis invalid"))
    with pytest.raises(ConnectorError, match=r"\(400\): Connector configuration is invalid"):
        connect.put("inventory", {})
    assert len(requests) == 1


def test_an_internal_error_of_another_kind_is_not_repeated() -> None:
    connect, requests = answering(error(500, "Failed to find any class that implements Connector"))
    with pytest.raises(ConnectorError, match="Failed to find any class"):
        connect.validate("inventory", {"connector.class": "Nix"})
    assert len(requests) == 1


def test_an_unknown_connector_is_none() -> None:
    connect, _ = answering(error(404, "No status found"), error(404, "not found"))
    assert connect.status("nix") is None
    assert connect.get_config("nix") is None


def test_deleting_an_unknown_connector_is_an_error() -> None:
    connect, _ = answering(error(404, "Connector nix not found"))
    with pytest.raises(ConnectorError, match="Connector nix not found"):
        connect.delete("nix")


def test_validation_names_each_key() -> None:
    def item(name: str, *errors: str) -> dict[str, object]:
        return {"definition": {}, "value": {"name": name, "errors": list(errors)}}

    configs = [item("a"), item("b", "is missing", "is odd")]
    connect, requests = answering(httpx.Response(200, json={"configs": configs}))
    problems = connect.validate("inventory", {"connector.class": "x.Y"})
    assert problems == [("b", "is missing"), ("b", "is odd")]
    assert requests[0].url.path == "/connector-plugins/x.Y/config/validate"
    assert json.loads(requests[0].content)["name"] == "inventory"


TRACE = (
    "org.apache.kafka.connect.errors.ConnectException: Non-retriable failure\n"
    "\tat io.debezium.Some.method(Some.java:1)\n"
    "Caused by: io.debezium.DebeziumException: Couldn't obtain encoding\n"
    "\t... 13 more\n"
    "Caused by: org.postgresql.util.PSQLException: FATAL: password authentication failed\n"
    "\t... 14 more\n"
)


def test_a_failed_task_under_a_running_connector() -> None:
    body = {
        "name": "inventory",
        "connector": {"state": "RUNNING", "worker_id": "w:1"},
        "tasks": [{"id": 0, "state": "FAILED", "worker_id": "w:1", "trace": TRACE}],
    }
    connect, _ = answering(httpx.Response(200, json=body))
    status = connect.status("inventory")
    assert status is not None
    assert not status.running
    assert status.failure == (
        "task 0: org.apache.kafka.connect.errors.ConnectException: Non-retriable failure Caused "
        "by: org.postgresql.util.PSQLException: FATAL: password authentication failed"
    )


def test_running_means_every_task_and_at_least_one() -> None:
    def running(*states: str) -> bool:
        tasks = tuple(TaskStatus(n, state) for n, state in enumerate(states))
        return ConnectorStatus("RUNNING", "w", tasks).running

    assert running("RUNNING", "RUNNING")
    assert not running("RUNNING", "UNASSIGNED")
    assert not running()


def test_restart_asks_for_failed_tasks() -> None:
    connect, requests = answering(httpx.Response(202))
    connect.restart("inventory")
    assert dict(requests[0].url.params) == {"includeTasks": "true", "onlyFailed": "true"}


def test_a_name_is_quoted() -> None:
    connect, requests = answering(httpx.Response(204))
    connect.delete("a b/c")
    assert requests[0].url.raw_path == b"/connectors/a%20b%2Fc"


def test_offsets_are_read_and_forgotten() -> None:
    stored = {"offsets": [{"partition": {"server": "stockwire"}, "offset": {"lsn": 7}}]}
    gone = {"offsets": [{"partition": {"server": "stockwire"}, "offset": None}]}
    caller, requests = answering(
        httpx.Response(200, json=stored),
        httpx.Response(200, json=gone),
        httpx.Response(200, json={"message": "reset"}),
        error(404, "no such connector"),
    )
    with caller as connect:
        assert connect.offsets("inventory") == [{"lsn": 7}]
        assert connect.offsets("inventory") == []
        connect.delete_offsets("inventory")
        assert connect.offsets("inventory") == []
    assert [(r.method, r.url.path) for r in requests[1:3]] == [
        ("GET", "/connectors/inventory/offsets"),
        ("DELETE", "/connectors/inventory/offsets"),
    ]


def test_offsets_of_a_running_connector_are_not_forgotten() -> None:
    connect, _ = answering(error(400, "must be in the STOPPED state"))
    with connect, pytest.raises(ConnectorError, match="STOPPED"):
        connect.delete_offsets("inventory")


def test_topics_and_plugins_by_name() -> None:
    caller, _ = answering(
        httpx.Response(200, json={"inventory": {"topics": ["a", "b"]}}),
        httpx.Response(200, json=[{"class": "org.Source", "type": "source"}]),
    )
    with caller as connect:
        assert connect.topics("inventory") == {"a", "b"}
        assert connect.plugins() == {"org.Source"}
