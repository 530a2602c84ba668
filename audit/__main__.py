"""`python -m audit`: compare everything again and again, and heal what drifts."""

import logging
import sys

import structlog

from audit.continuous.main import patrol, stop_on_signals
from inventory.errors import StockwireError
from inventory.settings import load_settings


def main() -> int:
    """Exit code 0 after a signal, 1 after a fault."""
    _log_as_json()
    stopping = stop_on_signals()
    try:
        patrol(load_settings(), stopping)
    except StockwireError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


def _log_as_json() -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")


if __name__ == "__main__":
    sys.exit(main())
