"""A command in Kafka becomes a checkout: held, paid for, sent, sold, told, and shown to readers."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import httpx
import psycopg
import pytest
from confluent_kafka import Producer

from compose.embedded.places import HOST
from inventory.settings import Settings
from inventory.topics import COMMANDS_CHECKOUT, DEAD_LETTER, events_topic
from reservations.saga.machine import Step
from simulate.services import DECLINED_METHOD, Fault
from tests.conftest import ROOT, TEST_ENVIRONMENT
from tests.integration.saga_books import let_time_pass, services_beside
from tests.polling import DEADLINE, eventually
from tests.saga_world import a_command
from tests.unit.test_health import free_port

pytestmark = pytest.mark.e2e

ON_HAND = 10


class Checkouts:
    """`python -m stream checkout` as a process, and the services that it asks."""

    def __init__(self, services, log) -> None:
        self.services = services
        self._log = log
        self._port = free_port()
        self._environment = {
            **os.environ,
            **TEST_ENVIRONMENT,
            "STOCKWIRE_PAYMENT_URL": services.url,
            "STOCKWIRE_SHIPPING_URL": services.url,
            "STOCKWIRE_HEALTH_PORT": str(self._port),
        }
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stream", "checkout"],
            cwd=ROOT,
            env=self._environment,
            stderr=self._log,
        )

    def is_ready(self) -> bool:
        assert self.process.poll() is None, "it has ended"
        try:
            answer = httpx.get(f"http://{HOST}:{self._port}/ready", trust_env=False, timeout=10)
        except httpx.TransportError:
            return False
        assert answer.json()["process"] == "checkout"
        assert answer.status_code == 200, answer.text
        return True

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


@pytest.fixture(scope="module")
def checkouts(stack, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkout") / "log"
    with services_beside() as services, path.open("w") as log:
        running = Checkouts(services, log)
        try:
            eventually(running.is_ready)
            yield running
        finally:
            running.process.kill()
            running.process.wait()
            print(path.read_text()[-20_000:])


@pytest.fixture
def say(settings: Settings):
    """Put values on the commands topic; returns when Kafka has them."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})

    def put(*values: bytes) -> None:
        for value in values:
            producer.produce(COMMANDS_CHECKOUT, value, b"ORDER-1")
        assert producer.flush(DEADLINE) == 0

    return put


@pytest.fixture
def shelf(database: psycopg.Connection, sku: str):
    """Ten units of a SKU; asks what is left: on hand and reserved."""
    database.execute(
        "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, 'T-1', %s)",
        [sku, ON_HAND],
    )
    return lambda: database.execute(
        "SELECT on_hand, reserved FROM inventory.stock WHERE sku = %s", [sku]
    ).fetchone()


def line(command) -> bytes:
    return command.model_dump_json().encode()


def end_of(events, command):
    """How a command ended, as it was told."""
    told = events.until(lambda told: told.json["command"] == str(command.id))
    assert json.loads(told.key) == str(command.saga)
    return told.headers["eventType"].decode(), told.json


def shows(reader, sku: str, available: int) -> None:
    def check() -> bool:
        promised = reader.get(sku, "web")
        assert promised is not None
        assert promised.available == available
        return True

    eventually(check)


def balances(services, command) -> tuple[int, int]:
    """What was paid and what was sent."""
    key = f"{command.saga}-"
    return services.balance(key + Step.PAY), services.balance(key + Step.SHIP)


def types_of(tail, saga) -> list[str]:
    """What was told of the saga's reservation so far."""
    mine = (told for told in tail.seen if json.loads(told.key) == str(saga))
    return [told.headers["eventType"].decode() for told in mine]


def test_a_command_is_carried_out_and_everybody_hears_of_it(
    checkouts, say, tail, shelf, reader, sku
):
    ends, holds = tail(events_topic("checkout")), tail(events_topic("reservation"))
    dead = tail(DEAD_LETTER)
    command = a_command(sku=sku, quantity=3, amount=2997)
    broken = f'{{"id": "{command.id}"}}'.encode()
    say(broken, line(command))
    kind, event = end_of(ends, command)
    assert kind == "checkout.completed"
    assert event["reservation"] == str(command.saga)
    assert balances(checkouts.services, command) == (2997, 3)
    assert shelf() == (ON_HAND - 3, 0)
    shows(reader, sku, ON_HAND - 3)
    holds.until(lambda _: types_of(holds, command.saga)[-1:] == ["inventory.confirmed"])
    assert types_of(holds, command.saga) == ["inventory.reserved", "inventory.confirmed"]
    letter = dead.until(lambda told: told.value == broken)
    assert b"lines: Field required" in letter.headers["__connect.errors.exception.message"]
    assert letter.headers["__connect.errors.topic"] == COMMANDS_CHECKOUT.encode()


def test_a_declined_payment_lets_the_units_go(checkouts, say, tail, shelf, reader, sku):
    ends, holds = tail(events_topic("checkout")), tail(events_topic("reservation"))
    command = a_command(sku=sku, quantity=3, method=DECLINED_METHOD)
    say(line(command))
    kind, event = end_of(ends, command)
    assert (kind, event["step"], event["reason"]) == ("checkout.failed", "pay", "declined")
    assert balances(checkouts.services, command) == (0, 0)
    assert shelf() == (ON_HAND, 0)
    shows(reader, sku, ON_HAND)
    holds.until(lambda _: types_of(holds, command.saga)[-1:] == ["inventory.released"])
    assert types_of(holds, command.saga) == ["inventory.reserved", "inventory.released"]


def test_killed_while_it_pays_it_is_paid_for_once(
    checkouts, say, tail, shelf, settings, sku, database
):
    """The money was taken and nobody heard of it; and the command comes twice."""
    ends = tail(events_topic("checkout"))
    command = a_command(sku=sku, quantity=2)
    checkouts.services.go_wrong("payments", Fault.LOSE)
    say(line(command), line(command))
    asked = ("payments", f"{command.saga}-{Step.PAY}")
    eventually(lambda: asked in checkouts.services.requests)
    assert checkouts.end(signal.SIGKILL) == -signal.SIGKILL
    say(line(command))
    let_time_pass(settings.conninfo())
    checkouts.start()
    kind, _ = end_of(ends, command)
    assert kind == "checkout.completed"
    eventually(checkouts.is_ready)
    # What was said after the kill has been taken in, too, once a later one has.
    another = a_command(sku=sku)
    say(line(command), line(another))
    end_of(ends, another)
    assert ends.drain()
    assert sum(told.json["command"] == str(command.id) for told in ends.seen) == 1
    effects = Counter((entry.kind, entry.key) for entry in checkouts.services.ledger)
    assert set(effects.values()) == {1}
    assert balances(checkouts.services, command) == (command.amount_minor, 2)
    assert shelf() == (ON_HAND - 3, 0)
    states = "SELECT count(*) FROM inventory.reservation WHERE id = %s AND status = 'confirmed'"
    assert database.execute(states, [command.saga]).fetchone() == (1,)


def test_told_to_stop_it_ends_the_step_in_hand_and_gives_the_saga_back(
    checkouts, say, tail, shelf, settings, sku, database
):
    ends = tail(events_topic("checkout"))
    command = a_command(sku=sku)
    checkouts.services.go_wrong("shipments", Fault.LATE)
    say(line(command))
    asked = ("shipments", f"{command.saga}-{Step.SHIP}")
    eventually(lambda: asked in checkouts.services.requests)
    assert checkouts.end(signal.SIGTERM) == 0
    checkouts.services.arrive_late()
    claim = "SELECT claimed_until IS NULL, steps FROM inventory.saga WHERE id = %s"
    free, steps = database.execute(claim, [command.saga]).fetchone()
    assert free, "another one need not wait for the claim to be over"
    assert steps["ship"]["state"] == "done", "the second try was answered"
    checkouts.start()
    assert end_of(ends, command)[0] == "checkout.completed"
    assert balances(checkouts.services, command) == (command.amount_minor, 1)
