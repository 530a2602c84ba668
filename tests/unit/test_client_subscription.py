"""Running, stopping and closing a subscription, blocking and with asyncio."""

import asyncio
import os
import signal
import threading

import pytest

from stockwire_client import (
    AVAILABILITY,
    AsyncSubscription,
    ConfigurationError,
    InvalidMessage,
    Subscription,
)
from tests.client_fakes import FakeBroker, availability
from tests.polling import eventually

#: Ends a run that a fault keeps from ending.
DEADLINE = 20


class Blocking:
    """A `Subscription` of a fake broker, and what its handler was given."""

    def __init__(self, broker, **options):
        self.subscription = Subscription(
            "web", AVAILABILITY, bootstrap="x:1", group="g", open_consumer=broker.open, **options
        )
        self.handled = []

    def run(self, act=None, until=None):
        def handler(change):
            if act is not None:
                act(change)
            self.handled.append(change.version)
            if len(self.handled) == until:
                self.subscription.stop()

        watchdog = threading.Timer(DEADLINE, self.subscription.stop)
        watchdog.start()
        try:
            self.subscription.run(handler)
        finally:
            watchdog.cancel()

    def close(self):
        self.subscription.close()

    def end(self):
        self.close()


class Awaited(Blocking):
    """The same of an `AsyncSubscription`, in a loop of its own."""

    def __init__(self, broker, *, on_poison=None, on_snapshot_complete=None, **options):
        self.runner = asyncio.Runner()
        self.subscription = AsyncSubscription(
            "web",
            AVAILABILITY,
            bootstrap="x:1",
            group="g",
            open_consumer=broker.open,
            on_poison=_awaitable(on_poison),
            on_snapshot_complete=_awaitable(on_snapshot_complete),
            **options,
        )
        self.handled = []

    def run(self, act=None, until=None):
        async def handler(change):
            if act is not None:
                act(change)
            self.handled.append(change.version)
            if len(self.handled) == until:
                self.subscription.stop()

        self.runner.run(asyncio.wait_for(self.subscription.run(handler), DEADLINE))

    def close(self):
        self.runner.run(self.subscription.close())

    def end(self):
        self.close()
        self.runner.close()


def _awaitable(function):
    if function is None:
        return None

    async def awaited(*args):
        function(*args)

    return awaited


@pytest.fixture(params=[Blocking, Awaited])
def member(request):
    opened = []

    def open_member(broker, **options):
        opened.append(request.param(broker, **options))
        return opened[-1]

    yield open_member
    for one in opened:
        one.end()


@pytest.fixture
def broker():
    broker = FakeBroker()
    for version in (1, 2, 3):
        broker.append(value=availability(version=version))
    return broker


def test_stop_lets_the_handler_finish_and_close_commits(member, broker):
    one = member(broker)
    one.run(until=2)
    assert one.handled == [1, 2]
    one.close()
    assert broker.offset() == 2


def test_what_a_handler_raises_leaves_run_and_its_message_comes_again(member, broker):
    def fail_at_two(change):
        if change.version == 2:
            raise RuntimeError("the shop is away")

    one = member(broker)
    with pytest.raises(RuntimeError, match="the shop is away"):
        one.run(fail_at_two)
    assert one.handled == [1]
    one.run(until=3)
    assert one.handled == [1, 2, 3]


def test_a_message_whose_handler_failed_is_not_committed(member, broker):
    def fail(change):
        raise RuntimeError

    one = member(broker)
    with pytest.raises(RuntimeError):
        one.run(fail)
    one.close()
    assert broker.offset() is None


def test_poison_is_raised_and_stays_where_it_is(member, broker):
    broker.logs[0][1].value_ = b"{"
    one = member(broker)
    for _ in range(2):
        with pytest.raises(InvalidMessage, match="on_poison callback"):
            one.run()
    one.close()
    assert broker.offset() == 1


def test_poison_goes_to_its_callback_and_is_passed(member, broker):
    broker.logs[0][1].value_ = b"{"
    found = []
    one = member(broker, on_poison=found.append)
    one.run(until=2)
    assert one.handled == [1, 3]
    assert [(poison.offset, poison.value) for poison in found] == [(1, b"{")]
    one.close()
    assert broker.offset() == 3


def test_a_poison_callback_that_fails_keeps_the_message(member, broker):
    broker.logs[0][1].value_ = b"{"

    def fail(poison):
        raise RuntimeError("no place for it")

    one = member(broker, on_poison=fail)
    with pytest.raises(RuntimeError, match="no place for it"):
        one.run()
    one.close()
    assert broker.offset() == 1


def test_the_end_of_the_snapshot_is_told_once(member, broker):
    told = []

    def on_complete():
        told.append(list(one.handled))
        one.subscription.stop()

    one = member(broker, on_snapshot_complete=on_complete)
    assert not one.subscription.snapshot_complete
    one.run()
    assert told == [[1, 2, 3]]
    assert one.subscription.snapshot_complete
    broker.append(value=availability(version=4))
    one.run(until=4)
    assert len(told) == 1


def test_a_closed_subscription_says_so(member, broker):
    one = member(broker)
    one.run(until=1)
    one.close()
    with pytest.raises(ConfigurationError, match="closed: open another one"):
        one.run()


@pytest.mark.parametrize(
    ("options", "says"),
    [({"start": "yesterday"}, '"snapshot" or "now"'), ({"remember": 0}, "at least one key")],
)
@pytest.mark.parametrize("kind", [Subscription, AsyncSubscription])
def test_what_cannot_work_is_refused(kind, options, says):
    with pytest.raises(ConfigurationError, match=says):
        kind("web", AVAILABILITY, bootstrap="x:1", group="g", **options)


@pytest.mark.parametrize("name", ["enable.auto.commit", "group.id", "auto.offset.reset"])
def test_settings_that_the_kit_decides_are_refused(name):
    with pytest.raises(ConfigurationError, match=f"config sets {name}"):
        Subscription("web", AVAILABILITY, bootstrap="x:1", group="g", config={name: "x"})


def test_a_setting_that_librdkafka_does_not_know_is_refused():
    with pytest.raises(ConfigurationError, match="does not accept config"):
        Subscription("web", AVAILABILITY, bootstrap="x:1", group="g", config={"no.such": "x"})


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


def test_the_first_ctrl_c_lets_the_handler_finish(broker):
    one = Blocking(broker)
    with pytest.raises(KeyboardInterrupt):
        one.run(lambda change: os.kill(os.getpid(), signal.SIGINT))
    assert one.handled == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    one.close()
    assert broker.offset() == 1


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
