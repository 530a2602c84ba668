"""The guardian's loop: look, decide, act, say."""

import re
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import psycopg
import structlog
from redis.exceptions import RedisError

from connectors.apply import CONNECTOR
from connectors.client import ConnectorStatus
from guard.checks.versions import set_back
from guard.decide import ALL_CHECKS, Action, Check, Decision, Observation, State, decide
from guard.facts import LineStop, SlotFacts, Unread
from guard.facts_connect import open_connect, stored_position
from guard.facts_postgres import (
    open_database,
    read_slot,
    read_stock_version,
    read_stop,
    read_wal_position,
)
from guard.facts_redis import open_redis
from health import Health
from inventory.errors import ConnectorError, Outage
from inventory.settings import Settings
from projections.checkpoint import read_checkpoints
from sql.queries import load_queries

log = structlog.stdlib.get_logger(__name__)

#: Seconds between two looks.
INTERVAL = 2.0

_QUERIES = load_queries()
_FIGURES = re.compile(r"[\d.,]+")


class Guardian:
    """Watches capture: restarts what failed, and stops what would go wrong in silence.

    Args:
        settings: where the parts are.
        health: told of every look and of what it found.
        clock: seconds that never go back.
    """

    def __init__(self, settings: Settings, health: Health, clock: Callable[[], float]) -> None:
        self._database = settings.conninfo()
        self._redis = open_redis(str(settings.redis_url))
        self._connect = open_connect(str(settings.connect_url))
        self._health = health
        self._clock = clock
        self._state = State()
        self._said: dict[Check, str] = {}
        health.expect(*ALL_CHECKS)
        health.started()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connect.__exit__(kind, exc, trace)
        self._redis.close()

    def run(self, end: threading.Event) -> None:
        """Look until `end` is set."""
        while not end.is_set():
            self.turn()
            end.wait(INTERVAL)

    def turn(self) -> Decision:
        """Look once, and do what follows."""
        decision = decide(self._state, self._look())
        self._state = decision.state
        for action in decision.actions:
            self._act(action, decision)
        self._tell(decision)
        self._health.turn()
        return decision

    def _look(self) -> Observation:
        status = self._status()
        # What was told is read before the database that it is compared with: both only rise.
        told, silent = self._told_version()
        try:
            with open_database(self._database) as connection:
                slot, stopped = read_slot(connection), read_stop(connection)
                reading = slot is not None and slot.active
                read = None if reading else self._stored_position()
                if slot is not None and slot.confirmed is not None:
                    read = max(read or 0, slot.confirmed)
                drawn = read_stock_version(connection)
                why = set_back(
                    stock_version=drawn,
                    told_version=told,
                    wal_position=read_wal_position(connection),
                    read_position=read,
                )
        except psycopg.Error as exc:
            unread = Unread(" ".join(str(exc).split()))
            return Observation(self._clock(), status, unread, redis=silent)
        self._show(slot, stopped)
        return Observation(
            self._clock(), status, slot, why, stopped, redis=silent, version_unread=drawn is None
        )

    def _status(self) -> ConnectorStatus | Unread | None:
        try:
            return self._connect.status(CONNECTOR)
        except ConnectorError as exc:
            return Unread(str(exc))

    def _told_version(self) -> tuple[int | None, str | None]:
        """The highest version that Redis applied, and why it does not say."""
        try:
            return read_checkpoints(self._redis).version, None
        except (RedisError, Outage) as exc:
            return None, " ".join(str(exc).split())

    def _stored_position(self) -> int | None:
        try:
            return stored_position(self._connect.offsets(CONNECTOR))
        except ConnectorError as exc:
            log.info("Connect's offsets were not looked at", why=str(exc))
            return None

    def _act(self, action: Action, decision: Decision) -> None:
        try:
            match action:
                case Action.RESTART:
                    log.warning("restarting what failed", number=decision.state.restarts)
                    self._connect.restart(CONNECTOR)
                case Action.STOP_LINE:
                    log.critical("stopping the line", why=decision.reason)
                    with open_database(self._database) as connection:
                        connection.execute(_QUERIES["stop_line"], {"reason": decision.reason})
                    self._connect.stop(CONNECTOR)
        except (ConnectorError, psycopg.Error) as exc:
            # The next look shows that it is still to be done.
            log.error("could not act", action=action.value, why=" ".join(str(exc).split()))  # noqa: TRY400

    def _show(self, slot: SlotFacts | None, stopped: LineStop | None) -> None:
        self._health.facts(
            slot_retained_bytes=None if slot is None else slot.retained,
            slot_wal_status=None if slot is None else slot.wal_status,
            slot_active=slot is not None and slot.active,
            line_stopped=stopped is not None,
            connector_restarts=self._state.restarts,
        )

    def _tell(self, decision: Decision) -> None:
        """Tell readiness; and the log, once for each problem that comes or goes."""
        for check in ALL_CHECKS:
            problem = decision.problems.get(check)
            self._health.problem(check, problem)
            # Figures change with every look; what they say does not.
            gist = None if problem is None else _FIGURES.sub("#", problem)
            if problem is not None and gist != self._said.get(check):
                log.critical(problem, check=check.value)
            elif problem is None and check in self._said:
                log.warning("all is well again", check=check.value)
            if gist is None:
                self._said.pop(check, None)
            else:
                self._said[check] = gist
