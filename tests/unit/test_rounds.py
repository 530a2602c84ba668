"""Work in rounds: through outages, never stuck, until it is stopped."""

import asyncio

import pytest

from inventory.errors import Outage
from reservations import rounds
from reservations.rounds import run_rounds


def rounds_of(monkeypatch, *works, round_seconds=30.0):
    """What was told of rounds that do this, until there are no more."""
    monkeypatch.setattr(rounds, "OUTAGE_SECONDS", 0.001)

    async def main():
        stop, told, left = asyncio.Event(), [], list(works)

        async def work():
            result = await left.pop(0)()
            if not left:
                stop.set()
            return result

        await asyncio.wait_for(
            run_rounds("test", work, stop, tell=told.append, round_seconds=round_seconds), 30
        )
        return told

    return asyncio.run(main())


async def done():
    return 0.0


async def away():
    raise Outage("Postgres is away")


async def stuck():
    await asyncio.Event().wait()


async def long_pause():
    return 3600.0


def test_each_round_is_told(monkeypatch):
    told = rounds_of(monkeypatch, done, away, away, done)
    assert told == [None, "Postgres is away", "Postgres is away", None]


def test_a_round_that_gets_no_answer_is_broken_off(monkeypatch):
    told = rounds_of(monkeypatch, stuck, done, round_seconds=0.01)
    assert told == ["no answer within 0.01 s", None]


def test_a_fault_is_no_outage(monkeypatch):
    async def fault():
        raise KeyError("sku")

    with pytest.raises(KeyError):
        rounds_of(monkeypatch, fault, done)


def test_told_to_stop_it_does_not_wait_for_the_next_round(monkeypatch):
    assert rounds_of(monkeypatch, long_pause) == [None]
