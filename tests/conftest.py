"""The test stack: real servers on their own ports, in their own directory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from rich.console import Console

from cli.bringup import bring_up
from compose.embedded.stack import Stack
from inventory.settings import PREFIX, Settings
from sql.migrate import migrate

# A machine may be shared and slow: time decides nothing, what is generated does.
hypothesis_settings.register_profile(
    "stockwire", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("stockwire")

ROOT = Path(__file__).parent.parent
STACK_DIR = ROOT / ".stack-test"

#: Ports of the test stack, so that a running demo is left alone.
TEST_ENVIRONMENT = {
    "STOCKWIRE_STACK_DIR": str(STACK_DIR),
    "STOCKWIRE_POSTGRES_DSN": (
        f"postgresql://stockwire_app@127.0.0.1:25432/stockwire?passfile={STACK_DIR}/pgpass"
    ),
    "STOCKWIRE_REDIS_URL": "redis://127.0.0.1:26379/0",
    "STOCKWIRE_KAFKA_BOOTSTRAP": "127.0.0.1:29092",
    "STOCKWIRE_CONNECT_URL": "http://127.0.0.1:28083",
}

#: Rows that stand in Postgres before anything is captured: (sku, warehouse, on hand).
BEFORE_CAPTURE = [
    ("BEFORE-1", "T-1", 7),
    ("BEFORE-1", "T-2", 5),
    ("BEFORE-2", "T-1", 0),
]


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> Iterator[None]:
    """Tests do not depend on what a developer's shell exports."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Settings of the test stack."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TEST_ENVIRONMENT.items():
            patch.setenv(name, value)
        return Settings()


@pytest.fixture(scope="session")
def stack(settings: Settings) -> Iterator[Stack]:
    """The whole running test stack, from empty.

    `TEST_STACK=running` keeps one that is up, and leaves it up: for work on a single test.
    """
    console = Console(stderr=True)
    stack = Stack(settings)
    keep = os.environ.get("TEST_STACK") == "running"
    if keep and STACK_DIR.exists():
        bring_up(settings, console)
        yield stack
        return
    stack.reset()
    try:
        stack.install(console)
        stack.start_servers()
        migrate(settings.conninfo(settings.postgres_admin_user))
        _insert_before_capture(settings)
        bring_up(settings, console)
        yield stack
    finally:
        if not keep:
            stack.stop()


@pytest.fixture(scope="module")
def nobody_heals(stack: Stack) -> Iterator[None]:
    """No auditor, which would mend what the module's tests break while they look at it."""
    with without_auditor(stack):
        yield


@contextmanager
def without_auditor(stack: Stack) -> Iterator[None]:
    """For what it would mend, given the time, before a test has looked."""
    stack.stop_part("auditor")
    try:
        yield
    finally:
        stack.start_part("auditor")


def _insert_before_capture(settings: Settings) -> None:
    with psycopg.connect(settings.conninfo()) as connection:
        cursor = connection.cursor()
        cursor.executemany(
            "INSERT INTO inventory.warehouse (code, name) VALUES (%s, %s)",
            [("T-1", "Test 1"), ("T-2", "Test 2")],
        )
        cursor.executemany(
            "INSERT INTO inventory.stock (sku, warehouse, on_hand) VALUES (%s, %s, %s)",
            BEFORE_CAPTURE,
        )
