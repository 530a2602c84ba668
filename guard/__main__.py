"""`python -m guard`: watch capture until told to end."""

import logging
import signal
import sys
import threading
import time

import structlog

from guard.guardian import Guardian
from health import Health, serve
from inventory.errors import StockwireError
from inventory.settings import load_settings

#: Seconds that one look may take: each part that is down costs its timeout.
_TURN_SECONDS = 40.0


def main() -> int:
    """Exit code 0 after a signal, 1 after a fault."""
    _log_as_json()
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


def _log_as_json() -> None:
    """Our lines on stderr, one event a line."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
