"""Stopping: from another thread, by Ctrl-C, by cancelling."""

import asyncio
import os
import signal
import threading

import pytest

from stockwire_client import (
    AVAILABILITY,
    AsyncSubscription,
    ConfigurationError,
)
from tests.client_fakes import FakeBroker, availability
from tests.client_members import Blocking
from tests.polling import eventually


@pytest.fixture
def broker():
    broker = FakeBroker()
    for version in (1, 2, 3):
        broker.append(value=availability(version=version))
    return broker


@pytest.fixture
def _ctrl_c():
    """Ctrl-C as Python has it: a shell's background job, such as CI may be, starts ignoring it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# --- blocking only


def test_close_from_another_thread_waits_for_the_handler(broker):
    entered, leave = threading.Event(), threading.Event()

    def wait(change):
        entered.set()
        assert leave.wait(30)

    one = Blocking(broker)
    runner = threading.Thread(target=one.run, args=(wait,))
    runner.start()
    assert entered.wait(30)
    closer = threading.Thread(target=one.close)
    closer.start()
    eventually(one.subscription._stop.is_set)
    assert closer.is_alive()
    leave.set()
    closer.join(30)
    runner.join(30)
    assert one.handled == [1]
    assert broker.offset() == 1


def test_a_handler_can_stop_but_not_close(broker):
    one = Blocking(broker)
    with pytest.raises(ConfigurationError, match=r"call stop\(\)"):
        one.run(lambda change: one.close())
    one.close()


@pytest.mark.usefixtures("_ctrl_c")
def test_the_first_ctrl_c_lets_the_handler_finish(broker):
    one = Blocking(broker)
    with pytest.raises(KeyboardInterrupt):
        one.run(lambda change: os.kill(os.getpid(), signal.SIGINT))
    assert one.handled == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    one.close()
    assert broker.offset() == 1


@pytest.mark.usefixtures("_ctrl_c")
def test_the_second_ctrl_c_does_not(broker):
    def impatient(change):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    one = Blocking(broker)
    with pytest.raises(KeyboardInterrupt):
        one.run(impatient)
    assert one.handled == []
    one.close()
    assert broker.offset() is None


def test_a_handler_of_ctrl_c_that_is_there_already_is_left_alone(broker):
    mine = []
    before = signal.signal(signal.SIGINT, lambda *_: mine.append(1))
    try:
        one = Blocking(broker)
        one.run(lambda change: os.kill(os.getpid(), signal.SIGINT), until=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert mine == [1]
    one.close()


# --- asyncio only


def test_cancelling_stops_and_does_not_commit_the_message_at_hand(broker):
    async def scenario():
        at_two = asyncio.Event()

        async def handler(change):
            if change.version == 2:
                at_two.set()
                await asyncio.Event().wait()

        async with AsyncSubscription(
            "web", AVAILABILITY, bootstrap="x:1", group="g", open_consumer=broker.open
        ) as web:
            task = asyncio.create_task(web.run(handler))
            await at_two.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
    assert broker.offset() == 1


def test_what_a_cancelled_fetch_brought_is_not_lost(broker):
    """The thread goes on fetching while the task is cancelled; the next run has its records."""
    fetching, go_on = threading.Event(), threading.Event()

    def slow_open(*_):
        consumer = broker.open()
        poll = consumer.poll

        def slow_poll(timeout):
            fetching.set()
            assert go_on.wait(30)
            message = poll(timeout)
            fetching.clear()
            return message

        consumer.poll = slow_poll
        return consumer

    async def scenario():
        handled = []

        async def handler(change):
            handled.append(change.version)
            if len(handled) == 3:
                web.stop()

        async with AsyncSubscription(
            "web", AVAILABILITY, bootstrap="x:1", group="g", open_consumer=slow_open
        ) as web:
            task = asyncio.create_task(web.run(handler))
            await asyncio.to_thread(fetching.wait, 30)
            task.cancel()
            asyncio.get_running_loop().call_later(0.05, go_on.set)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not fetching.is_set()  # it was waited for: nobody fetches behind the next run
            assert handled == []
            await web.run(handler)
            return handled

    assert asyncio.run(scenario()) == [1, 2, 3]
    assert broker.offset() == 3


def test_an_async_handler_can_stop_but_not_close(broker):
    async def scenario():
        async with AsyncSubscription(
            "web", AVAILABILITY, bootstrap="x:1", group="g", open_consumer=broker.open
        ) as web:

            async def handler(change):
                await web.close()

            with pytest.raises(ConfigurationError, match=r"call stop\(\)"):
                await web.run(handler)

    asyncio.run(scenario())
