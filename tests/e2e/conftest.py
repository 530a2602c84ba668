"""What an end-to-end test commits with, and what it reads with."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest

from compose.embedded.stack import Stack
from inventory.settings import Settings
from projections.reader import AvailabilityReader
from tests.e2e.tail import Tail


@pytest.fixture
def database(stack: Stack, settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection as the application, in autocommit; `with database.transaction()` for more."""
    with psycopg.connect(settings.conninfo(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def reader(stack: Stack, settings: Settings) -> Iterator[AvailabilityReader]:
    """Availability as a storefront reads it."""
    with AvailabilityReader.from_url(str(settings.redis_url)) as reader:
        yield reader


@pytest.fixture
def tail(stack: Stack, settings: Settings) -> Iterator[Callable[..., Tail]]:
    """Follow a topic from now on."""
    tails: list[Tail] = []

    def follow(topic: str) -> Tail:
        tails.append(Tail(settings.kafka_bootstrap, topic))
        return tails[-1]

    yield follow
    for opened in tails:
        opened.close()


@pytest.fixture
def sku() -> str:
    """A SKU that no other test knows."""
    return f"E2E-{uuid4().hex[:12]}"
