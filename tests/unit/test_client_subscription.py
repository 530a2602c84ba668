"""What a subscription does with messages, blocking and with asyncio."""

import pytest

from stockwire_client import (
    AVAILABILITY,
    AsyncSubscription,
    ConfigurationError,
    InvalidMessage,
    Subscription,
)
from tests.client_fakes import FakeBroker, availability
from tests.client_members import Awaited, Blocking


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
