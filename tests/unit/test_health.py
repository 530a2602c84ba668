"""A process's own health, and what it answers over HTTP."""

import asyncio
import json
import socket
import threading
import time

import httpx
import pytest

from health import Health, serve
from inventory.errors import StockwireError
from tests.polling import eventually


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port: int, path: str) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.get(f"http://127.0.0.1:{port}{path}")


def started(process: str = "x") -> Health:
    health = Health(process)
    health.started()
    return health


def test_a_process_is_ready_when_it_has_started_and_not_before():
    # Whoever asks before a process has said what it waits for must not hear that all is well.
    health = Health("x")
    assert health.ready().reasons == {"started": "not yet"}
    assert health.live().ok
    health.started()
    assert health.ready().ok


def test_what_is_expected_must_have_been_well_once():
    health = started()
    health.expect("known", "fresh")
    assert health.ready().reasons == {"known": "not yet", "fresh": "not yet"}
    health.problem("known", None)
    health.problem("fresh", "42 s old")
    assert health.ready().reasons == {"fresh": "42 s old"}
    assert health.live().ok
    health.problem("fresh", None)
    assert health.ready().ok
    health.expect("known")
    health.problem("known", None)
    assert health.ready().ok


def test_a_loop_that_does_not_turn_is_neither_live_nor_ready():
    health = Health("x", turn_limit=0.05)
    health.turn()
    assert health.live().ok
    verdict = eventually(lambda: None if health.live().ok else health.live())
    assert "has not turned for" in verdict.reasons["loop"]
    assert not health.ready().ok
    health.turn()
    assert health.live().ok


def test_answers_are_snapshots():
    health = started()
    health.facts(lag=3)
    verdict = health.ready()
    health.facts(lag=4)
    health.problem("a", "b")
    assert verdict.facts == {"lag": 3}
    assert verdict.reasons == {}


def test_http_says_what_the_process_says():
    health, port = started("availability"), free_port()
    health.facts(lag=7, partitions=[0, 1])
    with serve(health, port):
        good = ask(port, "/ready")
        health.problem("outage", "Redis takes no work")
        bad, live, odd = ask(port, "/ready?x=1"), ask(port, "/live"), ask(port, "/")
    facts = {"lag": 7, "partitions": [0, 1]}
    assert good.status_code == 200
    assert good.json() == {"process": "availability", "ok": True, "reasons": {}, "facts": facts}
    assert bad.status_code == 503
    assert bad.json() == {
        "process": "availability",
        "ok": False,
        "reasons": {"outage": "Redis takes no work"},
        "facts": facts,
    }
    assert bad.headers["content-type"] == "application/json"
    assert live.status_code == 200
    assert odd.status_code == 404
    assert json.loads(odd.content)


def test_the_port_is_free_again_afterwards():
    health, port = Health("x"), free_port()
    for _ in range(2):
        with serve(health, port):
            assert ask(port, "/live").status_code == 200
    with pytest.raises(httpx.ConnectError):
        ask(port, "/live")


def test_only_loopback_is_listened_on():
    port = free_port()
    with serve(Health("x"), port), socket.socket() as other:
        # Another address of loopback is not it: with 0.0.0.0 this would be taken.
        other.bind(("127.0.0.2", port))


def test_a_port_that_is_taken_names_the_setting():
    port = free_port()
    with (
        serve(Health("x"), port),
        pytest.raises(StockwireError, match="STOCKWIRE_HEALTH_PORT"),
        serve(Health("y"), port),
    ):
        pass


@pytest.mark.parametrize("port", [None, 0])
def test_without_a_port_nobody_listens(port: int | None):
    before = threading.active_count()
    with serve(Health("x"), port):
        assert threading.active_count() == before


def test_a_blocked_event_loop_still_answers():
    health, port = Health("x", turn_limit=0.2), free_port()

    async def main() -> int:
        with serve(health, port):
            answered: list[int] = []

            def watch() -> None:
                answered.append(
                    eventually(lambda: (r := ask(port, "/live").status_code) == 503 and r)
                )

            watcher = threading.Thread(target=watch)
            watcher.start()
            watcher.join()  # in the loop: it is blocked until somebody has seen that
            return answered[0]

    assert asyncio.run(main()) == 503


def test_who_hangs_up_or_says_nothing_disturbs_nobody(capfd: pytest.CaptureFixture[str]):
    port = free_port()
    with serve(Health("x"), port):
        silent = socket.create_connection(("127.0.0.1", port))
        rude = socket.create_connection(("127.0.0.1", port))
        # An RST instead of a FIN.
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        rude.sendall(b"GET /live HTTP/1.0\r\n\r\n")
        rude.close()
        assert ask(port, "/live").status_code == 200
        began = time.monotonic()
    assert time.monotonic() - began < 2
    silent.close()
    out, err = capfd.readouterr()
    assert out + err == ""
