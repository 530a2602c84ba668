"""`stockwire saga`: what a person and a program are told."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from uuid import uuid4

import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli import saga as command
from cli.saga import as_dict, lines_of, table_of, waiting_step
from inventory.errors import NotFound
from reservations.saga.machine import Record, Saga, State, Step
from reservations.saga.store import Listed
from tests.saga_world import a_saga

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def listed(saga: Saga, **more) -> Listed:
    ended = NOON if saga.ended else None
    fields = {"claimed_by": None, "claimed_until": None, "ended_at": ended, **more}
    return Listed(saga=saga, due_at=NOON, created_at=NOON, updated_at=NOON, **fields)


def a_refund_that_is_waited_for() -> Saga:
    records = {
        Step.RESERVE: Record(State.DONE),
        Step.PAY: Record(State.UNKNOWN, 7, "no answer", "503"),
        Step.SHIP: Record(),
        Step.CONFIRM: Record(),
    }
    return replace(a_saga(), records=records)


def test_what_is_waited_for_is_said():
    found = listed(a_refund_that_is_waited_for())
    assert waiting_step(found) is Step.PAY
    text = "\n".join(lines_of(found))
    assert "pay        unknown, 7 attempts in vain: no answer: 503" in text
    assert "status     compensating; the next attempt is due at 2026-11-21T12:00:00.000Z" in text
    claimed = listed(found.saga, claimed_by="checkout-1", claimed_until=NOON)
    assert "checkout-1 works on it until 2026-11-21T12:00:00.000Z at most" in lines_of(claimed)[-1]


def test_an_ended_one_says_when():
    records = {step: Record(State.DONE) for step in Step}
    found = listed(replace(a_saga(), records=records))
    assert waiting_step(found) is None
    assert lines_of(found)[-1] == "status     completed at 2026-11-21T12:00:00.000Z"


def test_as_json_it_has_all_of_it():
    fields = orjson.loads(orjson.dumps(as_dict(listed(a_refund_that_is_waited_for()))))
    assert (fields["status"], fields["failed_step"]) == ("compensating", "pay")
    assert fields["steps"]["pay"]["attempts"] == 7
    assert fields["command"]["lines"] == [{"sku": "SKU-1", "quantity": 1}]
    assert fields["ended_at"] is None


def test_the_table_fits():
    console = Console(width=100, record=True, file=StringIO())
    console.print(table_of([listed(a_refund_that_is_waited_for())]))
    assert max(map(len, console.export_text().splitlines())) <= 100


class Rows:
    """What the commands ask for."""

    def __init__(self, found: Listed | None, due: bool = False) -> None:
        self.found, self.due = found, due

    async def latest(self, status, most):
        return [self.found] if self.found else []

    async def find(self, saga):
        return self.found

    async def retry(self, saga):
        return self.due


@pytest.fixture
def ask(monkeypatch):
    def run(rows: Rows, *arguments: str):
        monkeypatch.setattr(command, "_ask", lambda work, **_: asyncio.run(work(rows)))
        return CliRunner().invoke(command.app, arguments)

    return run


def test_the_commands(ask):
    found = listed(a_refund_that_is_waited_for())
    saga = str(found.saga.id)
    assert orjson.loads(ask(Rows(found), "list", "--json").stdout)["id"] == saga
    assert orjson.loads(ask(Rows(found), "show", saga, "--json").stdout)["id"] == saga
    retried = ask(Rows(found, due=True), "retry", saga)
    assert (retried.exit_code, "due now" in retried.stdout) == (0, True)
    ended = listed(replace(found.saga, records={step: Record(State.DONE) for step in Step}))
    refused = ask(Rows(ended), "retry", saga)
    assert (refused.exit_code, "nothing left to do" in refused.stdout) == (1, True)


def test_an_unknown_one_is_a_sentence(ask):
    for verb in ("show", "retry"):
        assert isinstance(ask(Rows(None), verb, str(uuid4())).exception, NotFound)
