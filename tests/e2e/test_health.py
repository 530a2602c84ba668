"""Every process answers for its health, says what is wrong, and ends itself when it has stalled."""

import json
import os
import signal
import subprocess
import sys

import httpx
import psutil
import pytest

from compose.embedded import Stack
from compose.embedded.places import HOST
from compose.embedded.workers import WORKERS
from inventory.settings import Settings
from stockwire_client.names import channel_topic
from stream.watchdog import STALLED
from tests.conftest import ROOT, TEST_ENVIRONMENT
from tests.polling import eventually

pytestmark = pytest.mark.e2e

INSERT = "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, %s)"


def status(stack: Stack) -> dict:
    return {part.part: part for part in stack.status()}


def all_ready(stack: Stack) -> None:
    def check() -> bool:
        found = status(stack)
        assert {name: part.reason for name, part in found.items() if not part.ready} == {}
        return True

    eventually(check)


@pytest.fixture
def healthy(stack: Stack):
    """Every part is ready before the test, and after it."""
    stack.start_workers()
    all_ready(stack)
    yield stack
    if not status(stack)["redis"].answers:
        stack.start_part("redis")
    stack.start_workers()
    all_ready(stack)


def test_every_process_answers_on_loopback_only(healthy: Stack):
    found = status(healthy)
    for worker in WORKERS:
        part = found[worker]
        for path in ("live", "ready"):
            answer = httpx.get(f"http://{HOST}:{part.port}/{path}", trust_env=False, timeout=10)
            assert answer.status_code == 200, answer.text
            assert answer.json()["process"] == worker
        listening = [
            connection.laddr
            for connection in psutil.Process(part.pid).net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert [tuple(address) for address in listening] == [(HOST, part.port)]


def test_a_worker_says_what_it_holds_and_how_fresh_it_is(healthy: Stack, settings: Settings):
    for worker in ("availability", "ledger"):
        facts = status(healthy)[worker].facts
        assert facts["partitions"] == list(range(settings.partitions))
        assert facts["freshness_seconds"] <= settings.fresh_seconds
        assert facts["lag"] >= 0


def test_without_redis_only_the_worker_that_needs_it_is_not_ready(healthy: Stack, database, sku):
    healthy.stop_part("redis")
    database.execute(INSERT, [sku, "T-1", 5])

    def noticed() -> str:
        found = status(healthy)
        assert found["availability"].answers
        assert not found["availability"].ready
        reason = found["availability"].reason or ""
        assert "Redis" in reason, reason
        return reason

    eventually(noticed)
    assert status(healthy)["ledger"].ready, status(healthy)["ledger"].reason
    healthy.start_part("redis")
    all_ready(healthy)


def test_a_worker_that_is_stopped_does_not_answer(healthy: Stack):
    pid = healthy.kill("ledger", signal.SIGSTOP)
    try:
        found = status(healthy)["ledger"]
        assert (found.answers, found.ready, found.reason) == (False, False, "it does not answer")
    finally:
        os.kill(pid, signal.SIGCONT)
    all_ready(healthy)
    assert status(healthy)["ledger"].pid == pid, "it was no stall, and it must not have ended"


@pytest.mark.parametrize("where", ["agent", "fetcher"])
def test_a_worker_that_has_stalled_ends_itself_and_another_goes_on(
    healthy: Stack, database, tail, sku: str, where: str
):
    wms = tail(channel_topic("wms"))
    healthy.stop_part("ledger")
    stuck = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.stuck_worker", where],
        cwd=ROOT,
        env={**os.environ, **TEST_ENVIRONMENT, "STOCKWIRE_STALL_SECONDS": "3"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        database.execute(INSERT, [sku, "T-1", 5])
        _, said = stuck.communicate(timeout=90)
    finally:
        stuck.kill()
    assert stuck.returncode == STALLED, said[-2000:]
    [line] = [line for line in said.splitlines() if "worker stalled" in line]
    event = json.loads(line)
    assert "has not moved from offset" in event["reason"]
    assert event["facts"]["lag"] > 0
    assert {"agent": "in __call__", "fetcher": "in never_fetch"}[where] in said
    healthy.start_part("ledger")
    assert wms.until(lambda m: m.key == f"{sku}|T-1".encode()).json["on_hand"] == 5
