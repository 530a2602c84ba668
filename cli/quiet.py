"""Commands whose output is an answer: what is logged meanwhile goes to stderr, if it matters."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from reservations.trying import log_no_retries


@contextmanager
def quietly() -> Iterator[None]:
    """Log warnings only, to stderr, and nothing of attempts that others were quicker than."""
    before = structlog.get_config()
    log_no_retries()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)
