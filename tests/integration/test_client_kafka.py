"""Subscriptions on a real Kafka."""

import asyncio
import threading

import pytest

from inventory.policy import ChannelKind
from stockwire_client import AVAILABILITY, AsyncSubscription, InvalidMessage, Refused, Subscription
from tests.client_fakes import availability, typed
from tests.integration.client_channel import fresh_channel, wait_until_read
from tests.polling import DEADLINE, eventually

pytestmark = pytest.mark.integration

SNAPSHOT = ("stockwire_snapshot", b"true")


@pytest.fixture
def channel(stack, settings):
    with fresh_channel(settings, ChannelKind.AVAILABILITY) as channel:
        yield channel


def blocking(channel, *, until, group=None, **options):
    """What a subscription hands over until `until` says that it is enough."""
    handled = []
    subscription = Subscription(
        channel.name,
        AVAILABILITY,
        bootstrap=channel.bootstrap,
        group=group or channel.group,
        **options,
    )

    def handler(change):
        handled.append((change.sku, change.version))
        if until(handled):
            subscription.stop()

    watchdog = threading.Timer(DEADLINE, subscription.stop)
    watchdog.start()
    with subscription:
        subscription.run(handler)
    watchdog.cancel()
    return handled


def awaited(channel, *, until, group=None, **options):
    """The same with asyncio."""
    handled = []

    async def scenario():
        async with AsyncSubscription(
            channel.name,
            AVAILABILITY,
            bootstrap=channel.bootstrap,
            group=group or channel.group,
            **options,
        ) as subscription:

            async def handler(change):
                handled.append((change.sku, change.version))
                if until(handled):
                    subscription.stop()

            await asyncio.wait_for(subscription.run(handler), DEADLINE)

    asyncio.run(scenario())
    return handled


both = pytest.mark.parametrize("subscribe", [blocking, awaited])


def skus(count, version=1):
    return [(f"S{n}".encode(), availability(f"S{n}", version)) for n in range(count)]


@both
def test_the_whole_state_then_only_what_is_new(channel, subscribe):
    channel.send_many(skus(50))
    first = subscribe(channel, until=lambda handled: len(handled) == 50)
    assert sorted(first) == sorted((f"S{n}", 1) for n in range(50))
    assert channel.left() == 0  # committed on close, not at the next interval
    channel.send_many(skus(3, version=2))
    again = subscribe(channel, until=lambda handled: len(handled) == 3)
    assert sorted(again) == [("S0", 2), ("S1", 2), ("S2", 2)]


@both
def test_from_now_is_the_moment_of_the_first_subscription(channel, subscribe):
    channel.send_many(skus(10))
    joined = threading.Event()
    with Subscription(
        channel.name,
        AVAILABILITY,
        bootstrap=channel.bootstrap,
        group=channel.group,
        start="now",
        on_snapshot_complete=joined.set,
    ) as subscription:
        runner = threading.Thread(target=subscription.run, args=(print,))
        runner.start()
        assert joined.wait(DEADLINE)
    runner.join(DEADLINE)
    channel.send_many([(b"S1", availability("S1", 2))])
    assert subscribe(channel, start="now", until=bool) == [("S1", 2)]


@both
def test_the_snapshot_is_complete_also_for_who_went_on_in_the_middle(channel, subscribe):
    channel.send(b"S1", availability("S1", 1), [*typed(), SNAPSHOT])
    channel.end_part(0, 2)
    complete = []
    subscribe(channel, until=bool, on_snapshot_complete=callback(subscribe, complete))
    with Subscription(
        channel.name, AVAILABILITY, bootstrap=channel.bootstrap, group=channel.group
    ) as subscription:
        runner = threading.Thread(target=subscription.run, args=(print,))
        runner.start()
        wait_until_read(channel)
        assert not subscription.snapshot_complete
    runner.join(DEADLINE)
    assert complete == []
    channel.end_part(1, 2)  # and nothing but that: the first end is known from the commit
    channel.send(b"S1", availability("S1", 2), typed())
    subscribe_until_complete(channel, subscribe, complete)
    assert complete == ["complete"]


def callback(subscribe, complete):
    if subscribe is blocking:
        return lambda: complete.append("complete")

    async def awaited_callback():
        complete.append("complete")

    return awaited_callback


def subscribe_until_complete(channel, subscribe, complete):
    """Feed the subscription until it has told that the snapshot is complete."""
    stop = threading.Event()

    def feed():
        version = 3
        while not stop.wait(0.05):
            channel.send(b"S1", availability("S1", version), typed())
            version += 1

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        subscribe(
            channel,
            until=lambda handled: complete,
            on_snapshot_complete=callback(subscribe, complete),
        )
    finally:
        stop.set()
        feeder.join(DEADLINE)


@both
def test_poison_is_told_and_passed_or_stops_the_subscription(channel, subscribe):
    channel.send(b"S1", b"{", partition=0)
    channel.send(b"S1", availability("S1", 1), partition=0)
    with pytest.raises(InvalidMessage, match="Invalid JSON"):
        subscribe(channel, until=bool, group="strict")
    found = []
    if subscribe is blocking:
        on_poison = found.append
    else:

        async def on_poison(poison):
            found.append(poison)

    assert subscribe(channel, until=bool, on_poison=on_poison) == [("S1", 1)]
    assert [(poison.partition, poison.offset, poison.value) for poison in found] == [(0, 0, b"{")]
    assert channel.left() == 0


@both
def test_a_channel_that_is_not_there_is_refused(stack, settings, subscribe):
    class Nowhere:
        name, group, bootstrap = "nowhere", "nobody", settings.kafka_bootstrap

    with pytest.raises(Refused, match=r"stock\.nowhere\.v1.*check the channel's name"):
        subscribe(Nowhere, until=bool)


def test_members_come_and_go_and_nothing_is_missed(channel):
    """While records are written, members join, leave and fail; each record is handled."""
    handled = []
    lock = threading.Lock()
    enough = threading.Event()
    written = 0

    def write():
        nonlocal written
        while not enough.is_set():
            written += 1
            channel.send_many(skus(30, written))

    def member(fail_after=None):
        seen = 0

        def handler(change):
            nonlocal seen
            seen += 1
            if seen == fail_after:
                raise RuntimeError("this member fails")
            with lock:
                handled.append((change.sku, change.version))

        subscription = Subscription(
            channel.name, AVAILABILITY, bootstrap=channel.bootstrap, group=channel.group
        )

        def run():
            with subscription:
                try:
                    subscription.run(handler)
                except RuntimeError as exc:
                    assert "this member fails" in str(exc)  # noqa: PT017 - in a thread

        thread = threading.Thread(target=run)
        thread.start()
        return subscription, thread

    writer = threading.Thread(target=write)
    first = member()
    writer.start()
    failing = member(fail_after=20)
    # Written until then: a member that joins late would find nothing left to fail at.
    eventually(lambda: not failing[1].is_alive())
    third = member()
    first[0].close()
    enough.set()
    writer.join(DEADLINE)
    fourth = member()
    wait_until_read(channel)
    for subscription, thread in (first, third, fourth):
        subscription.close()
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert set(handled) == {
        (f"S{n}", version) for n in range(30) for version in range(1, written + 1)
    }


def test_cancelling_an_async_subscription_commits_what_was_handled(channel):
    channel.send_many(skus(20))

    async def scenario():
        handled = 0
        enough = asyncio.Event()

        async def handler(change):
            nonlocal handled
            if handled == 7:
                enough.set()
                await asyncio.Event().wait()
            handled += 1

        async with AsyncSubscription(
            channel.name, AVAILABILITY, bootstrap=channel.bootstrap, group=channel.group
        ) as subscription:
            task = asyncio.create_task(subscription.run(handler))
            await asyncio.wait_for(enough.wait(), DEADLINE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
    assert channel.left() == 13


def test_a_group_that_reads_on_does_not_wait_for_the_next_message(channel):
    """Offsets are committed while nothing comes, too."""
    channel.send_many(skus(5))
    with Subscription(
        channel.name, AVAILABILITY, bootstrap=channel.bootstrap, group=channel.group
    ) as subscription:
        runner = threading.Thread(target=subscription.run, args=(print,))
        runner.start()
        wait_until_read(channel)
        eventually(lambda: subscription.snapshot_complete)
    runner.join(DEADLINE)
    assert not runner.is_alive()
