"""What the guardian does about what it sees: pure, so that it can be tested."""

from dataclasses import dataclass, replace
from enum import StrEnum

from connectors.client import STOPPED, ConnectorStatus
from guard.checks.connect import GAPS
from guard.checks.slot import RETAINED_CRITICAL, share_used, size
from guard.checks.versions import GRANT_VERSION, RECOVER_DATABASE, VERSION_UNREAD
from guard.facts import LineStop, SlotFacts, Unread

#: Restarts of a failed task, one after the other, before it is left alone.
MOST_RESTARTS = 6

#: Seconds before the second restart; doubled before each one after it.
FIRST_PAUSE = 1.0

#: Seconds of RUNNING after which earlier failures are forgotten.
FORGET_SECONDS = 600.0

#: Seconds that nobody reads the slot, or Connect does not answer, before that is said.
PATIENCE = 30.0


class Action(StrEnum):
    """What the guardian can do."""

    RESTART = "restart"
    STOP_LINE = "stop the line"


class Check(StrEnum):
    """What it watches, as readiness names it."""

    CONNECT = "connect"
    CONNECTOR = "connector"
    SLOT = "slot"
    DATABASE = "database"
    REDIS = "redis"
    VERSIONS = "versions"


ALL_CHECKS = tuple(Check)


@dataclass(frozen=True, slots=True)
class Observation:
    """One look.

    Attributes:
        now: seconds on a clock that never goes back.
        connector: its status, None when Connect does not know it.
        slot: None when there is none.
        set_back: why the database is older than what was told downstream, or None.
        stopped: the note that the line stands still; None without one, and when it is unread.
        redis: why Redis does not say what it was told; None when it does.
        version_unread: whether the database does not say which versions it has drawn.
    """

    now: float
    connector: ConnectorStatus | Unread | None
    slot: SlotFacts | Unread | None
    set_back: str | None = None
    stopped: LineStop | None = None
    redis: str | None = None
    version_unread: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What the guardian remembers between looks; times as in `Observation.now`.

    Attributes:
        restarts: since the last long time of RUNNING.
        next_restart: not before then.
        running_since: None while it does not run.
        unread_since: Connect does not answer; None while it does.
        idle_since: nobody reads the slot; None while somebody does.
        redis_unread_since: Redis does not answer; None while it does.
    """

    restarts: int = 0
    next_restart: float = 0.0
    running_since: float | None = None
    unread_since: float | None = None
    idle_since: float | None = None
    redis_unread_since: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a look.

    Attributes:
        actions: to be done now.
        problems: by check, what to raise an alarm about.
        reason: why the line is stopped, when that is among the actions.
    """

    state: State
    actions: tuple[Action, ...]
    problems: dict[Check, str]
    reason: str = ""


def pause_before(restart: int) -> float:
    """Seconds from the restart of this number, counted from 0, to the next one."""
    return FIRST_PAUSE * 2.0**restart


def decide(state: State, seen: Observation) -> Decision:
    """What to do, and what to say."""
    problems: dict[Check, str] = {}
    state, slot_problem = _slot(state, seen)
    if slot_problem is not None:
        problems[Check.SLOT] = slot_problem
    if isinstance(seen.slot, Unread):
        problems[Check.DATABASE] = f"Postgres cannot be read: {seen.slot.why}"
    state, redis_problem = _redis(state, seen)
    if redis_problem is not None:
        problems[Check.REDIS] = redis_problem
    if seen.version_unread:
        problems[Check.VERSIONS] = f"{VERSION_UNREAD}. Run, as the owner, `{GRANT_VERSION}`"
    stop = seen.set_back if seen.stopped is None else seen.stopped.reason
    if stop is not None:
        # A new slot would be no way out, so it is not offered.
        problems.pop(Check.SLOT, None)
        problems[Check.VERSIONS] = f"the line is stopped: {stop}. Run `{RECOVER_DATABASE}`"
        state = replace(state, restarts=0, running_since=None)
        stopping = () if _stands_still(seen) else (Action.STOP_LINE,)
        return Decision(state, stopping, problems, stop)
    state, actions, problem = _connector(state, seen)
    if problem is not None:
        problems[problem[0]] = problem[1]
    return Decision(state, actions, problems)


def _redis(state: State, seen: Observation) -> tuple[State, str | None]:
    if seen.redis is None:
        return replace(state, redis_unread_since=None), None
    since = seen.now if state.redis_unread_since is None else state.redis_unread_since
    state = replace(state, redis_unread_since=since)
    if seen.now - since < PATIENCE:
        return state, None
    return state, f"whether the database was restored cannot be told without Redis: {seen.redis}"


def _stands_still(seen: Observation) -> bool:
    """Whether nothing is captured, and the note of it is made."""
    status = seen.connector
    if seen.stopped is None:
        return False
    if status is None:
        return True
    if isinstance(status, Unread):
        return False
    return status.state == STOPPED and not status.tasks


def _connector(
    state: State, seen: Observation
) -> tuple[State, tuple[Action, ...], tuple[Check, str] | None]:
    status = seen.connector
    if isinstance(status, Unread):
        since = seen.now if state.unread_since is None else state.unread_since
        state = replace(state, unread_since=since, running_since=None)
        # Its supervisor starts it again; a short absence is the ordinary end of that.
        late = seen.now - since >= PATIENCE
        return state, (), (Check.CONNECT, status.why) if late else None
    state = replace(state, unread_since=None)
    if status is None:
        text = "Connect does not know the connector; `make up` applies it"
        return replace(state, running_since=None), (), (Check.CONNECTOR, text)
    if status.running:
        since = seen.now if state.running_since is None else state.running_since
        state = replace(state, running_since=since)
        if seen.now - since >= FORGET_SECONDS:
            state = replace(state, restarts=0, next_restart=0.0)
        return state, (), None
    state = replace(state, running_since=None)
    if status.failure is None:
        if status.state in {"PAUSED", STOPPED}:
            text = f"the connector is {status.state}; `make up` resumes it"
            return state, (), (Check.CONNECTOR, text)
        return state, (), None
    if any(text in status.failure for text in GAPS):
        text = f"{status.failure}. Run `stockwire recover slot`"
        return state, (), (Check.CONNECTOR, text)
    if isinstance(seen.slot, Unread):
        # Without its database it can only fail again: no restart is used up for that.
        return state, (), (Check.CONNECTOR, status.failure)
    return _failed(state, seen.now, status.failure)


def _failed(
    state: State, now: float, failure: str
) -> tuple[State, tuple[Action, ...], tuple[Check, str]]:
    if state.restarts >= MOST_RESTARTS:
        text = (
            f"{failure}. It was restarted {state.restarts} times and is left alone; mend the "
            "cause, then `make up`"
        )
        return state, (), (Check.CONNECTOR, text)
    text = f"{failure}. It is restarted, {state.restarts} of {MOST_RESTARTS} times so far"
    if now < state.next_restart:
        return state, (), (Check.CONNECTOR, text)
    state = replace(
        state,
        restarts=state.restarts + 1,
        next_restart=now + pause_before(state.restarts),
    )
    return state, (Action.RESTART,), (Check.CONNECTOR, text)


def _slot(state: State, seen: Observation) -> tuple[State, str | None]:
    slot = seen.slot
    if isinstance(slot, Unread):
        return state, None
    if slot is None:
        return replace(state, idle_since=None), (
            "the replication slot is gone. Run `stockwire recover slot`"
        )
    if slot.wal_status == "lost":
        return state, "the replication slot has lost its WAL. Run `stockwire recover slot`"
    if slot.wal_status == "unreserved":
        return state, "the replication slot loses its WAL at the next checkpoint: let it be read"
    since = None if slot.active else seen.now if state.idle_since is None else state.idle_since
    state = replace(state, idle_since=since)
    used = share_used(slot.retained, slot.safe)
    if used is not None and used >= RETAINED_CRITICAL:
        return state, (
            f"the replication slot retains {size(slot.retained)}, {used:.0%} of what it may; then "
            "it is lost"
        )
    if since is not None and seen.now - since >= PATIENCE:
        return state, f"nobody has read the replication slot for {seen.now - since:.0f} s"
    return state, None
