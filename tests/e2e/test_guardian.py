"""The guardian restarts what failed, a bounded number of times, on real servers."""

import json
import threading
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import psycopg
import pytest
from psycopg import sql
from redis import Redis

from connectors.apply import CONNECTOR
from connectors.client import ConnectClient
from guard.decide import MOST_RESTARTS, Check, pause_before
from guard.guardian import INTERVAL, Guardian
from guard.names import CDC_ROLE, SLOT
from health import Health
from stockwire_client.names import availability_key
from tests.polling import eventually

pytestmark = pytest.mark.e2e

INSERT = "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'T-1', 5)"
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"


@pytest.fixture
def admin(stack, settings):
    """A connection as the owner."""
    owner = settings.conninfo(settings.postgres_admin_user)
    with psycopg.connect(owner, autocommit=True) as connection:
        yield connection


@pytest.fixture
def fresh_guardian(stack):
    """One that has restarted nothing yet, and none of whose restarts are used up afterwards."""
    stack.restart("guardian")
    eventually(lambda: said(stack).ready)
    yield stack
    stack.restart("guardian")
    eventually(lambda: said(stack).ready)


def said(stack):
    answer = stack.ask("guardian")
    assert answer is not None
    return answer


def set_password(admin, password):
    admin.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(CDC_ROLE), sql.Literal(password))
    )


def restarts_in_log(stack, start):
    """When the guardian said that it restarts, and the numbers it gave them."""
    with stack.log_path("guardian").open("rb") as log:
        log.seek(start)
        lines = [json.loads(line) for line in log if b"restarting what failed" in line]
    return [(datetime.fromisoformat(line["timestamp"]), line["number"]) for line in lines]


def test_a_failed_task_is_restarted_until_its_cause_is_gone(
    fresh_guardian, settings, admin, database, sku
):
    stack = fresh_guardian
    start = stack.log_path("guardian").stat().st_size
    right = stack._postgres.password(CDC_ROLE)
    with ConnectClient(str(settings.connect_url)) as connect:
        set_password(admin, "wrong")
        try:
            # The connector is started anew with a password that is refused.
            admin.execute(END_SESSIONS, [CDC_ROLE])
            connect.restart(CONNECTOR, only_failed=False)
            failure = eventually(lambda: connect.status(CONNECTOR).failure)
            assert "password" in failure, failure
            database.execute(INSERT, [sku])
            eventually(lambda: said(stack).facts["connector_restarts"] >= 3)
            assert "It is restarted" in said(stack).reasons[Check.CONNECTOR]
        finally:
            set_password(admin, right)
        # Nobody else does anything.
        eventually(lambda: connect.status(CONNECTOR).running)
        eventually(lambda: said(stack).ready)
    made = restarts_in_log(stack, start)
    assert [number for _, number in made] == list(range(1, len(made) + 1))
    assert 3 <= len(made) <= MOST_RESTARTS
    pauses = [(later - earlier).total_seconds() for (earlier, _), (later, _) in pairwise(made)]
    for number, pause in enumerate(pauses):
        # Its log's clock is not the clock that it waits by.
        assert pause >= pause_before(number) - 0.1, pauses
    with Redis.from_url(str(settings.redis_url)) as redis:
        eventually(lambda: redis.exists(availability_key(sku)))
    database.execute("DELETE FROM inventory.stock WHERE sku = %s", [sku])


FAILED = {
    "name": CONNECTOR,
    "connector": {"state": "RUNNING", "worker_id": "here:1"},
    "tasks": [{"id": 0, "state": "FAILED", "worker_id": "here:1", "trace": "it broke\n"}],
}


@contextmanager
def connect_of_a_task_that_always_fails():
    """A Kafka Connect over HTTP; yields its address and the restarts that it was asked for."""
    restarts = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            known = {
                f"/connectors/{CONNECTOR}/status": FAILED,
                f"/connectors/{CONNECTOR}/offsets": {"offsets": []},
            }
            self._answer(200, known[self.path])

        def do_POST(self):
            restarts.append(self.path)
            self._answer(202, FAILED)

        def _answer(self, code, body):
            sent = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", restarts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_task_that_always_fails_is_left_with_an_alarm(stack, settings, admin):
    eventually(lambda: admin.execute(
        "SELECT active FROM pg_replication_slots WHERE slot_name = %s", [SLOT]
    ).fetchone()[0])  # fmt: skip
    health, now = Health("guardian"), [0.0]
    with connect_of_a_task_that_always_fails() as (url, restarts):
        elsewhere = settings.model_copy(update={"connect_url": url})
        with Guardian(elsewhere, health, lambda: now[0]) as guardian:
            made = []
            while now[0] < 200:
                before = len(restarts)
                guardian.turn()
                made += [now[0]] * (len(restarts) - before)
                now[0] += INTERVAL / 2
    assert len(made) == len(restarts) == MOST_RESTARTS
    assert restarts[0] == f"/connectors/{CONNECTOR}/restart?includeTasks=true&onlyFailed=true"
    assert [later - earlier for earlier, later in pairwise(made)] == [1, 2, 4, 8, 16]
    alarm = health.ready().reasons[Check.CONNECTOR]
    assert f"restarted {MOST_RESTARTS} times and is left alone" in alarm
    assert "it broke" in alarm
    assert "make up" in alarm
