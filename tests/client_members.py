"""Subscriptions of a fake broker, blocking and with asyncio, that look the same."""

import asyncio
import threading

from stockwire_client import (
    AVAILABILITY,
    AsyncSubscription,
    Subscription,
)

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
