"""When the auditor is ready, why it is not, and what it says of itself meanwhile."""

from collections.abc import Callable, Iterator, Mapping

import orjson
import pytest
import redis

from audit.continuous.inquiry import Figures
from audit.continuous.judge import Case
from audit.continuous.patrol import AUDIT_KEY, BLIND_SECONDS, Patrol
from audit.continuous.walk import Step
from audit.report import Difference
from health import Health
from inventory.errors import Outage
from inventory.policy import ChannelKind, ChannelPolicy

WEB = ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1")
WAITING = "its own reading of stock.web.v1 partition 3"
DRIFT = Case("S", frozenset(), (Difference("redis web", "S", None, {"available": 1}, None),))

#: A look is taken so often.
_MOMENT = 0.1


class World:
    """All that a patrol deals with, and its time: what happens when is told by `then`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.happens: list[tuple[float, Callable[[], None]]] = []
        self.health = Health("auditor", turn_limit=1e9)
        self.said: dict[str, object] | None = None
        self.followed: list[Mapping[str, ChannelKind]] = []
        # The inquiry
        self.figures = Figures()
        self.suspected: list[str] = []
        self.suspects = 0
        self.drift = 0
        self.left: dict[str, Case] = {}
        self.waits_for: str | None = None
        self.waits_since: float | None = None
        self.ended = 0
        # What fails
        self.stepping: str | None = None
        self.walking: str | None = None
        self.redis_is_away = False
        self.behind: str | None = None

    # threading.Event
    def wait(self, seconds: float) -> bool:
        self.now += max(seconds, _MOMENT)
        while self.happens and self.happens[0][0] <= self.now:
            self.happens.pop(0)[1]()
        return not self.happens

    # Walk
    def steps(self) -> Iterator[Step]:
        if self.walking is not None:
            raise Outage(self.walking)
        yield Step(1_000, 0, ["A"], (WEB,))
        yield Step(0, 10, [])

    # Inquiry
    def suspect(self, skus: list[str]) -> None:
        self.suspected += skus

    @property
    def waited(self) -> float:
        return 0.0 if self.waits_since is None else self.now - self.waits_since

    def step(self) -> None:
        if self.stepping is not None:
            raise Outage(self.stepping)

    def again(self) -> None:
        self.ended += 1

    # Pipeline and follower
    def published(self, topics: list[str]) -> Mapping[tuple[str, int], int]:
        return {}

    def unread(self, ends: object) -> str | None:
        return self.behind

    def follow(self, topics: Mapping[str, ChannelKind]) -> None:
        self.followed.append(topics)

    # Redis
    def set(self, key: str, value: bytes) -> None:
        assert key == AUDIT_KEY
        if self.redis_is_away:
            raise redis.exceptions.ConnectionError
        self.said = orjson.loads(value)

    def reasons(self) -> dict[str, str]:
        return self.health.ready().reasons

    def then(self, at: float, act: Callable[[], None]) -> None:
        self.happens.append((at, act))

    def patrol(self, until: float) -> None:
        """Walk until then; what was to happen has happened."""
        self.then(until, lambda: None)
        Patrol(  # type: ignore[arg-type]
            self, self, self, self, lambda: (WEB,), self, self.health, self, lambda: self.now
        ).run()
        assert not self.happens


@pytest.fixture
def world() -> World:
    return World()


def becomes(world: World, **values: object) -> Callable[[], None]:
    def change() -> None:
        for name, value in values.items():
            setattr(world, name, value)

    return change


def seen(world: World, into: list[dict[str, str]]) -> Callable[[], None]:
    return lambda: into.append(world.reasons())


def test_it_is_ready_once_it_has_read_what_channels_were_told(world: World):
    found: list[dict[str, str]] = []
    world.behind = WAITING
    world.then(5, seen(world, found))
    world.then(6, becomes(world, behind=None))
    world.then(10, seen(world, found))
    world.patrol(30)
    assert found == [{"started": f"waits for {WAITING}"}, {}]
    assert world.ended >= 4
    assert world.suspected[:2] == ["A", "A"]
    assert {"stock.web.v1": ChannelKind.AVAILABILITY} in world.followed
    assert world.said is not None
    assert (world.said["rows"], world.said["blind"]) == (1_000, None)


def test_what_the_walk_asks_and_does_not_answer(world: World):
    found: list[dict[str, str]] = []
    said: list[object] = []
    world.then(10, becomes(world, walking="Postgres cannot be reached"))
    world.then(20, seen(world, found))
    world.then(20, lambda: said.append(world.said))
    world.then(21, becomes(world, walking=None))
    world.then(40, seen(world, found))
    world.patrol(41)
    assert found == [{"outage": "Postgres cannot be reached"}, {}]
    (while_away,) = said
    assert isinstance(while_away, dict)
    assert while_away["blind"] == "Postgres cannot be reached"
    assert while_away["blind_since"] is not None
    assert world.said is not None
    assert (world.said["blind"], world.said["blind_since"]) == (None, None)


def test_an_outage_ends_with_the_first_step_that_works(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """A pass of a million rows takes two minutes, in which the auditor is not blind."""
    fails = [Outage("Redis takes no work")]

    def steps() -> Iterator[Step]:
        for number in range(100):
            if number == 3 and fails:
                raise fails.pop()
            yield Step(10_000, 0, [], (WEB,))

    monkeypatch.setattr(world, "steps", steps)
    found: list[dict[str, str]] = []
    world.then(3.9, seen(world, found))
    world.then(8, seen(world, found))
    world.patrol(9)
    assert found == [{"outage": "Redis takes no work"}, {}]
    assert world.ended == 0, "the pass has not ended yet"


def test_what_the_inquiry_asks_and_does_not_answer_does_not_hold_up_the_walk(world: World):
    found: list[dict[str, str]] = []
    passes: list[int] = []
    world.then(10, becomes(world, stepping="Kafka takes no repairs"))
    world.then(10, lambda: passes.append(world.ended))
    world.then(40, seen(world, found))
    world.then(40, lambda: passes.append(world.ended))
    world.then(41, becomes(world, stepping=None))
    world.then(45, seen(world, found))
    world.patrol(46)
    assert found == [{"suspects": "Kafka takes no repairs"}, {}]
    assert passes[1] > passes[0]


def test_drift_that_is_left_to_a_person_is_told_with_an_example(world: World):
    found: list[dict[str, str]] = []
    world.then(10, becomes(world, left={"S": DRIFT}, drift=1))
    world.then(15, seen(world, found))
    world.then(16, becomes(world, left={}, drift=0))
    world.then(20, seen(world, found))
    world.patrol(21)
    assert found == [
        {
            "drift": "1 SKUs drift again and again, such as 'S' (redis web: expected "
            "{'available': 1}, found nothing): look at `stockwire explain`"
        },
        {},
    ]


def test_suspects_that_wait_for_too_long_are_no_health(world: World):
    """A pipeline that stands still: nothing is drift, and nobody can say that all is well."""
    found: list[dict[str, str]] = []
    said: list[object] = []
    stuck = becomes(world, waits_for="Redis, which lacks records", waits_since=10.0, suspects=3)
    world.then(10, stuck)
    world.then(10 + BLIND_SECONDS - 5, seen(world, found))
    world.then(10 + BLIND_SECONDS + 5, seen(world, found))
    world.then(10 + BLIND_SECONDS + 5, lambda: said.append((world.said or {})["blind"]))
    world.then(100, becomes(world, waits_for=None, waits_since=None, suspects=0))
    world.then(110, seen(world, found))
    world.patrol(111)
    patient, blind, sound = found
    assert (patient, sound) == ({}, {})
    assert blind.keys() == {"blind"}
    assert blind["blind"].startswith("3 suspects wait, some for 6")
    assert blind["blind"].endswith("s, for Redis, which lacks records")
    (told,) = said
    assert str(told).startswith("3 suspects wait")


def test_a_redis_that_takes_no_figures_is_an_outage_and_ends_nothing(world: World):
    found: list[dict[str, str]] = []
    world.then(10, becomes(world, redis_is_away=True))
    world.then(20, seen(world, found))
    world.then(21, becomes(world, redis_is_away=False))
    world.then(40, seen(world, found))
    world.patrol(41)
    assert found[0].keys() == {"outage"}
    assert found[1] == {}
