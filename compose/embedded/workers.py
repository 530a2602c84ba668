"""The two Faust workers, as supervised programs."""

import sys
from collections.abc import Mapping

from compose.embedded.places import CHECKOUT
from compose.embedded.supervisord import Program

WORKERS = ("availability", "ledger")


def worker_program(name: str, environment: Mapping[str, str]) -> Program:
    """A worker, in the virtual environment that this process runs in."""
    return Program(
        name,
        (sys.executable, "-m", "stream", name),
        directory=CHECKOUT,
        environment=environment,
        # SIGTERM lets the batch in hand finish and the offsets commit.
        stop_seconds=30,
        start_seconds=5,
        # A worker that leaves because of an outage must be back after it, however long that was.
        start_retries=1000,
    )
