"""`python -m guard`: watch capture until told to end."""

import signal
import sys
import threading
import time

from guard.guardian import Guardian
from health import Health, serve
from health.logs import configure_logging
from inventory.errors import StockwireError
from inventory.settings import load_settings

#: Seconds that one look may take: each part that is down costs its timeout.
_TURN_SECONDS = 40.0


def main() -> int:
    """Exit code 0 after a signal, 1 after a fault."""
    configure_logging()
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    health = Health("guardian", _TURN_SECONDS)
    try:
        settings = load_settings()
        with (
            serve(health, settings.health_port),
            Guardian(settings, health, time.monotonic) as guardian,
        ):
            guardian.run(end)
    except StockwireError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
