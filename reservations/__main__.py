"""`python -m reservations`: look after reservations until told to end."""

import asyncio
import signal
import sys

import uvloop

from health import Health, serve
from health.collector import tune_collector
from health.logs import configure_logging
from inventory.errors import StockwireError
from inventory.settings import Settings, load_settings
from reservations.keeper import keep


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    health = Health("reservations")
    with serve(health, settings.health_port):
        await keep(settings, health, stop)


def main() -> int:
    """Exit code 0 after a signal, 1 after a fault."""
    configure_logging()
    tune_collector()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(load_settings()))
    except StockwireError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
