"""When a topic is given up that says nothing: only if Kafka itself answers, and not at once."""

import asyncio
import threading

import pytest

from inventory.messages import OutgoingMessage
from stream import lane
from stream.lane import Lane

MESSAGE = OutgoingMessage("t", b"k", b"v", [])


class Silent:
    """A producer to which nobody says anything; `alive` tells whether Kafka has the topic."""

    alive: bool | None = True

    def __init__(self, config):
        self.producer = self
        self.produced = []

    def produce(self, topic, value, key, *, headers, on_delivery):
        self.produced.append(on_delivery)

    def knows(self, topic):
        return self.alive

    def stop(self):
        return threading.Thread()


@pytest.fixture
def clock(monkeypatch):
    """Time passes when the test says so."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(lane.time, "monotonic", lambda: Clock.now)
    monkeypatch.setattr(lane, "_Polled", Silent)
    monkeypatch.setattr(Silent, "alive", True)
    return Clock


def run(play):
    async def scenario():
        channel = Lane("127.0.0.1:1", "test", "t")
        await play(channel, await channel.send([MESSAGE]))

    asyncio.run(scenario())


def test_it_is_given_up_when_kafka_answers_and_acknowledges_nothing(clock):
    async def play(channel, receipt):
        for seconds in (1.0, lane.PATIENCE, 0.1):
            clock.now += seconds
            await channel.look()
            assert channel.refusal is None
        clock.now += lane.PATIENCE
        await channel.look()
        assert "acknowledges nothing" in channel.refusal.reason
        assert await receipt is False

    run(play)


def test_an_outage_of_all_of_kafka_is_waited_for(clock, monkeypatch):
    async def play(channel, receipt):
        monkeypatch.setattr(Silent, "alive", None)
        for _ in range(20):
            clock.now += lane.PATIENCE
            await channel.look()
        assert channel.refusal is None
        monkeypatch.setattr(Silent, "alive", True)
        await channel.look()
        assert channel.refusal is None, "it has only just come back"
        assert not receipt.resolved

    run(play)


def test_one_acknowledged_in_time_starts_the_patience_anew(clock):
    async def play(channel, receipt):
        clock.now += lane.PATIENCE + 0.1
        await channel.look()
        channel._producer.produced[0](None, None)
        assert await receipt is True
        await channel.send([MESSAGE])
        clock.now += lane.PATIENCE - 0.1
        await channel.look()
        assert channel.refusal is None

    run(play)


def test_what_comes_while_it_refuses_is_counted_and_the_count_outlives_a_vain_attempt(clock):
    async def play(channel, _):
        channel._refuse("no")
        assert await channel.send([MESSAGE] * 3) is not None
        assert channel.refusal.dropped == 3
        assert not channel.reopen()
        clock.now = channel.refusal.retry_at
        assert channel.refusal.due
        assert channel.reopen()
        await channel.send([MESSAGE])
        channel._refuse("no")
        assert (channel.refusal.dropped, channel.refusal.attempts) == (3, 2)

    run(play)


def test_the_error_of_a_producer_given_up_says_nothing_about_the_next(clock):
    async def play(channel, _):
        first = channel._producer
        channel._refuse("no")
        clock.now = channel.refusal.retry_at
        channel.reopen()
        await channel.send([MESSAGE])
        channel._refuse_from(first, "purged")
        assert channel.refusal is None

    run(play)
