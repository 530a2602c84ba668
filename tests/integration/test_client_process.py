"""The five lines of the README, as processes."""

import os
import signal
import subprocess
import sys

import pytest

from inventory.policy import ChannelKind
from tests.client_fakes import availability
from tests.integration.client_channel import fresh_channel
from tests.polling import DEADLINE

pytestmark = pytest.mark.integration


@pytest.fixture
def channel(stack, settings):
    with fresh_channel(settings, ChannelKind.AVAILABILITY) as channel:
        yield channel


FIVE_LINES = {
    "blocking": """
from stockwire_client import AVAILABILITY, Subscription

with Subscription("{name}", AVAILABILITY, bootstrap="{bootstrap}", group="{group}") as channel:
    channel.run(lambda change: print(change.sku, flush=True))
""",
    "asyncio": """
import asyncio
from stockwire_client import AVAILABILITY, AsyncSubscription

async def handler(change):
    print(change.sku, flush=True)

async def main():
    async with AsyncSubscription(
        "{name}", AVAILABILITY, bootstrap="{bootstrap}", group="{group}"
    ) as channel:
        await channel.run(handler)

asyncio.run(main())
""",
}


@pytest.mark.parametrize("script", FIVE_LINES)
def test_ctrl_c_ends_a_process_and_commits(channel, script):
    code = FIVE_LINES[script].format(
        name=channel.name, bootstrap=channel.bootstrap, group=channel.group
    )
    channel.send_many((f"S{n}".encode(), availability(f"S{n}")) for n in range(5))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        told = {process.stdout.readline().strip() for _ in range(5)}
        assert told == {f"S{n}" for n in range(5)}
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
    assert "KeyboardInterrupt" in errors.splitlines()[-1]
    assert process.returncode == -signal.SIGINT
    assert channel.left() == 0
