"""`python -m stream availability|ledger|checkout`: run one worker."""

import argparse
import asyncio
import sys

import uvloop

from health.collector import tune_collector
from health.logs import configure_logging
from inventory.errors import StockwireError
from inventory.settings import load_settings
from stream.worker import WORKS, run_worker


def main() -> int:
    """Run the named worker; exit code 0 after a signal, 1 after a fault."""
    parser = argparse.ArgumentParser(prog="python -m stream", description=__doc__)
    parser.add_argument("agent", choices=sorted(WORKS), help="what the worker does")
    agent = parser.parse_args().agent
    configure_logging()
    tune_collector()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_worker(agent, load_settings(), WORKS[agent]))
    except StockwireError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
