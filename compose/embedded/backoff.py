"""A part of supervisord: how long a program waits that ends as soon as it is started.

supervisord adds a second to the pause with each failed start, without end: after half an hour of an
outage a worker would be back half a minute after it. Loaded by `[rpcinterface:backoff]` of the
configuration, which is supervisord's way to take in code of ours.
"""

import time

from supervisor import events

#: Seconds between two starts of a program that ends at once, at most. A start of a worker costs
#: about a second of a core.
LONGEST_PAUSE = 10.0


class _Nothing:
    """The methods that this part adds to supervisord's interface."""


def make(_supervisord: object) -> object:
    """Bound every pause from now on; supervisord calls this when it starts."""
    events.subscribe(events.ProcessStateBackoffEvent, bound)
    return _Nothing()


def bound(event: events.ProcessStateBackoffEvent) -> None:
    """Shorten a pause that is too long."""
    process = event.process
    process.delay = min(process.delay, time.time() + LONGEST_PAUSE)
