"""`python -m audit`: compare everything again and again, and heal what drifts."""

import sys

from audit.continuous.main import patrol, stop_on_signals
from health.collector import tune_collector
from health.logs import configure_logging
from inventory.errors import StockwireError
from inventory.settings import load_settings


def main() -> int:
    """Exit code 0 after a signal, 1 after a fault."""
    configure_logging()
    tune_collector()
    stopping = stop_on_signals()
    try:
        patrol(load_settings(), stopping)
    except StockwireError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
