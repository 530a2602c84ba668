"""The process `reservations`, as the stack runs it, on a database of a test's own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict

from inventory.settings import PREFIX, Settings
from tests.conftest import ROOT
from tests.polling import eventually

#: Puts up holds of one unit of each of some SKUs, due evenly over a time that begins after a while.
_HOLDS = """
    WITH made AS (
        INSERT INTO inventory.reservation (id, caller, reference, strategy, held_until)
        SELECT gen_random_uuid(), 'web', 'ORD-' || n, 'optimistic',
            clock_timestamp() + make_interval(secs => %(after)s + %(over)s * n / %(holds)s)
        FROM generate_series(1, %(holds)s) AS n
        RETURNING id, split_part(reference, '-', 2)::int AS n
    )
    INSERT INTO inventory.reservation_line (reservation, sku, warehouse, quantity)
    SELECT id, 'K-' || n %% %(skus)s, 'W1', 1 FROM made
"""
_STOCK = """
    INSERT INTO inventory.stock (sku, warehouse, on_hand, reserved)
    SELECT sku, warehouse, sum(quantity) + 7, sum(quantity)
    FROM inventory.reservation_line GROUP BY sku, warehouse
"""


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Keeper:
    """One process `reservations`."""

    def __init__(self, settings: Settings, conninfo: str, redis_url: str | None = None) -> None:
        self._port = free_port()
        database = conninfo_to_dict(conninfo)["dbname"]
        dsn = urlsplit(settings.conninfo())._replace(path=f"/{database}").geturl()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "reservations"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                f"{PREFIX}POSTGRES_DSN": dsn,
                f"{PREFIX}REDIS_URL": redis_url or str(settings.redis_url),
                f"{PREFIX}HEALTH_PORT": str(self._port),
            },
        )

    def ask(self, what: str = "ready") -> dict | None:
        """What it says of itself; None if it does not answer."""
        assert self.process.poll() is None, "it must not end by itself"
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._port}/{what}", trust_env=False, timeout=10)
        except httpx.TransportError:
            return None
        said = answer.json()
        assert said["process"] == "reservations"
        assert said["ok"] == (answer.status_code == 200)
        return said

    def ready(self) -> bool:
        said = self.ask()
        return said is not None and said["ok"]

    def reasons(self) -> dict[str, str]:
        """Why it is not ready, by check."""
        said = self.ask()
        return {} if said is None else said["reasons"]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def keepers(
    settings: Settings, conninfo: str, redis_url: str | None = None, *, count: int = 1
) -> Iterator[list[Keeper]]:
    """So many of them, at work; those that still run at the end are told to end."""
    started = [Keeper(settings, conninfo, redis_url) for _ in range(count)]
    try:
        for keeper in started:
            eventually(keeper.ready)
        yield started
        for keeper in started:
            if keeper.process.poll() is None:
                assert keeper.end() == 0
    finally:
        for keeper in started:
            keeper.process.kill()
            keeper.process.wait()


def put_up_holds(
    conninfo: str, holds: int, *, skus: int, after: float = 0.0, over: float = 0.0
) -> None:
    """Nothing but these holds, and the rows of stock that they are of.

    Args:
        conninfo: of the database.
        holds: how many, of one unit each.
        skus: of so many SKUs, `K-0` and so on.
        after: seconds until the first is due.
        over: seconds between the first and the last.
    """
    with psycopg.connect(conninfo) as connection:
        for table in ("reservation", "outbox", "stock"):
            connection.execute(f"DELETE FROM inventory.{table}")
        values = {"holds": holds, "skus": skus, "after": after, "over": over}
        connection.execute(_HOLDS, values)
        connection.execute(_STOCK)


def ended(conninfo: str) -> int:
    """How many holds have expired."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT count(*) FROM inventory.reservation WHERE status = 'expired'"
        ).fetchone()
    assert row is not None
    return row[0]


def assert_each_ended_once(conninfo: str, holds: int) -> None:
    """All have expired, each was told once, and nothing is reserved any more."""
    with psycopg.connect(conninfo) as connection:
        assert connection.execute(
            "SELECT r.status, count(DISTINCT r.id), count(o.id) FROM inventory.reservation r "
            "LEFT JOIN inventory.outbox o ON o.aggregateid = r.id::text "
            "AND o.type = 'inventory.expired' GROUP BY 1"
        ).fetchall() == [("expired", holds, holds)]
        assert connection.execute(
            "SELECT DISTINCT reserved, on_hand - (SELECT count(*) FROM inventory.reservation_line "
            "l WHERE l.sku = s.sku) FROM inventory.stock s"
        ).fetchall() == [(0, 7)]


def lateness(conninfo: str) -> list[float]:
    """Seconds by which holds ended after they were due, the least first."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "SELECT extract(epoch FROM closed_at - held_until)::float FROM inventory.reservation "
            "WHERE status = 'expired' ORDER BY 1"
        ).fetchall()
    return [late for (late,) in rows]
