"""What counts as drift, when it is healed, and when it is left to a person."""

from collections.abc import Iterable

import pytest

from audit.continuous.inquiry import HEALS, HELD_SECONDS, Inquiry
from audit.continuous.judge import Case, Verdict
from audit.report import Difference
from inventory.errors import Outage
from inventory.policy import ChannelKind, ChannelPolicy

WEB = ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1")
PLACE = "redis web"


def case(sku: str, version: int = 2, place: str = PLACE, *, ghost: bool = False) -> Case:
    expected = None if ghost else {"available": 1}
    difference = Difference(place, sku, None, expected, {"available": 9})
    return Case(sku, frozenset({("row", "W", version)}), (difference,))


class World:
    """Postgres, Redis and Kafka in one: which SKUs differ, and whether anything moves."""

    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}
        self.moving: set[str] = set()
        self.now_us = 1_000
        self.beat = 0
        self.stuck: str | None = None
        self.unsettled: dict[str, str] = {}
        self.healed: list[str] = []
        self.heals = True
        self.refuses = False
        self.now = 0.0
        self.inquiry = Inquiry(self, self, self, lambda _: self.unsettled, lambda: self.now)

    def look(self, skus: Iterable[str]) -> Verdict:
        wanted = set(skus)
        found = {s: c for s, c in self.cases.items() if s in wanted and s not in self.moving}
        return Verdict(self.now_us, (WEB,), found, frozenset(self.moving & wanted))

    def heal(self, cases, policies) -> None:
        if self.refuses:
            raise Outage("Kafka takes no repairs")
        self.healed += [each.sku for each in cases]
        if self.heals:
            for each in cases:
                del self.cases[each.sku]

    def beat_us(self) -> int:
        return self.beat

    def captured(self):
        return {("stock", 0): 7}

    def behind(self, ends) -> str | None:
        return self.stuck

    def published(self, topics):
        return {}

    def unread(self, ends) -> str | None:
        return None

    def steps(self, number: int = 10) -> None:
        """The pipeline moves on meanwhile."""
        for _ in range(number):
            self.beat = self.now_us + 1
            self.inquiry.step()


@pytest.fixture
def world() -> World:
    return World()


def test_what_lasts_is_drift_and_is_healed(world: World):
    world.cases["S"] = case("S")
    world.inquiry.suspect(["S", "SOUND"])
    world.steps()
    assert world.healed == ["S"]
    assert (world.inquiry.figures.drifted, world.inquiry.figures.healed) == (1, 1)
    assert (world.inquiry.drift, world.inquiry.suspects) == (0, 0)


def test_nothing_counts_before_the_pipeline_has_moved(world: World):
    world.cases["S"] = case("S")
    world.inquiry.suspect(["S"])
    for _ in range(10):
        world.inquiry.step()
    assert "heartbeat" in (world.inquiry.waits_for or "")
    world.stuck = "stockwire-ledger, which is behind"
    world.steps()
    assert world.inquiry.waits_for == world.stuck
    assert (world.inquiry.drift, world.inquiry.suspects, world.healed) == (0, 1, [])
    world.stuck = None
    world.steps()
    assert world.healed == ["S"]


def test_what_was_only_in_flight_is_no_drift(world: World):
    world.cases["S"] = case("S")
    world.inquiry.suspect(["S"])
    world.inquiry.step()
    del world.cases["S"]
    world.steps()
    assert (world.inquiry.figures.drifted, world.inquiry.suspects, world.healed) == (0, 0, [])


@pytest.mark.parametrize("later", [case("S", version=4), case("S", place="redis app")])
def test_another_difference_than_before_is_in_flight_itself(world: World, later: Case):
    world.cases["S"] = case("S")
    world.inquiry.suspect(["S"])
    world.inquiry.step()
    world.cases["S"] = later
    world.steps()
    assert (world.inquiry.figures.drifted, world.healed) == (0, [])


def test_of_what_moves_while_it_is_looked_at_nothing_is_known(world: World):
    world.cases["S"] = case("S")
    world.inquiry.suspect(["S"])
    world.inquiry.step()
    world.moving.add("S")
    world.steps()
    assert world.healed == []


def test_places_that_are_about_to_change_do_not_count(world: World):
    world.cases["S"] = case("S")
    world.unsettled = {PLACE: "web is being told of its policy"}
    world.inquiry.suspect(["S"])
    world.steps()
    assert (world.inquiry.suspects, world.healed) == (0, [])


def test_an_edit_that_comes_while_it_waits_counts_as_well(world: World):
    world.cases["S"] = case("S")
    world.inquiry.suspect(["S"])
    world.inquiry.step()
    world.unsettled = {PLACE: "web is being told of its policy"}
    world.steps()
    assert world.healed == []


def test_ghosts_are_counted(world: World):
    world.cases["S"] = case("S", ghost=True)
    world.inquiry.suspect(["S"])
    world.steps()
    assert (world.inquiry.figures.healed, world.inquiry.figures.ghosts) == (1, 1)


def test_what_comes_back_again_and_again_is_left_to_a_person(world: World):
    for _ in range(HEALS + 2):
        world.cases["S"] = case("S")
        world.inquiry.suspect(["S"])
        world.steps()
    assert world.healed == ["S"] * HEALS
    assert [*world.inquiry.left] == ["S"]
    assert (world.inquiry.drift, world.inquiry.figures.drifted) == (1, HEALS + 1)
    del world.cases["S"]
    world.inquiry.again()
    world.steps()
    assert (world.inquiry.drift, [*world.inquiry.left]) == (0, [])


def drift_once(world: World, passes: int = 0, seconds: float = 0.0) -> None:
    """A new drift, healed if it is; then so many sound passes, and so much time."""
    world.cases["S"] = case("S")
    world.inquiry.suspect(["S"])
    world.steps()
    for _ in range(passes):
        world.now += seconds / passes
        world.inquiry.again()
        world.steps()


def test_a_heal_that_held_is_forgotten(world: World):
    for _ in range(HEALS + 3):
        drift_once(world, passes=3, seconds=HELD_SECONDS + 1)
    assert world.healed == ["S"] * (HEALS + 3)
    assert world.inquiry.drift == 0


@pytest.mark.parametrize(("passes", "seconds"), [(20, HELD_SECONDS * 0.9), (0, 0.0)])
def test_what_flaps_is_given_up_all_the_same(world: World, passes: int, seconds: float):
    for _ in range(HEALS + 1):
        drift_once(world, passes, seconds)
    assert world.healed == ["S"] * HEALS
    assert [*world.inquiry.left] == ["S"]


def test_time_alone_is_no_proof_that_a_heal_held(world: World):
    """No pass has ended since: nobody has looked."""
    for _ in range(HEALS + 1):
        drift_once(world)
        world.now += 2 * HELD_SECONDS
    assert world.healed == ["S"] * HEALS


def test_what_is_left_is_not_forgotten_while_it_drifts(world: World):
    world.heals = False
    drift_once(world)
    for _ in range(HEALS + 3):
        world.now += 2 * HELD_SECONDS
        world.steps()
        world.inquiry.again()
        world.steps()
    assert world.healed == ["S"] * HEALS
    assert [*world.inquiry.left] == ["S"]


def test_a_heal_that_is_not_sent_leaves_everything_as_it_was(world: World):
    world.refuses = True
    world.cases["S"] = case("S")
    world.inquiry.suspect(["S"])
    world.inquiry.step()
    world.beat = world.now_us + 1
    for _ in range(5):
        with pytest.raises(Outage):
            world.inquiry.step()
        assert (world.inquiry.figures.drifted, world.inquiry.suspects) == (0, 1)
    world.refuses = False
    world.steps()
    assert world.healed == ["S"]
    assert (world.inquiry.figures.drifted, world.inquiry.figures.healed) == (1, 1)


def test_how_long_suspects_have_waited_is_known_whatever_they_wait_for(world: World):
    assert world.inquiry.waited == 0
    world.cases["S"] = case("S")
    world.inquiry.suspect(["S"])
    world.inquiry.step()
    for number in range(3):
        world.stuck = f"partition {number}"
        world.now += 10
        world.beat = world.now_us + 1
        world.inquiry.step()
    assert world.inquiry.waited == 30
    world.stuck = None
    world.steps()
    assert world.inquiry.waited == 0


def test_what_a_repair_does_not_mend_is_tried_again_and_then_left(world: World):
    world.heals = False
    world.cases["S"] = case("S")
    world.inquiry.suspect(["S"])
    for _ in range(HEALS + 1):
        world.steps()
        world.now += 1_000
    assert world.healed == ["S"] * HEALS
    assert [*world.inquiry.left] == ["S"]


def test_one_batch_is_healed_at_a_time(world: World):
    world.heals = False
    skus = [f"S{n}" for n in range(150)]
    world.cases = {sku: case(sku) for sku in skus}
    world.inquiry.suspect(skus)
    world.steps()
    assert len(world.healed) == 100


def test_suspects_are_bounded(world: World):
    world.inquiry.suspect(map(str, range(50_000)))
    assert world.inquiry.suspects == 10_000


def test_a_pass_that_had_no_place_for_suspects_proves_nothing_of_the_others(world: World):
    for _ in range(HEALS + 1):
        drift_once(world)
        world.now += 2 * HELD_SECONDS
        world.inquiry.suspect(map(str, range(10_001)))
        world.inquiry.again()
        world.steps(300)
    assert world.healed == ["S"] * HEALS


def test_what_is_left_is_not_forgotten_however_much_else_drifts(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("audit.continuous.inquiry._MOST_REMEMBERED", 5)
    for _ in range(HEALS + 1):
        drift_once(world)
    others = [f"O{n}" for n in range(20)]
    world.cases |= {sku: case(sku) for sku in others}
    world.inquiry.suspect(others)
    world.steps()
    drift_once(world)
    assert world.healed.count("S") == HEALS
    assert len(world.inquiry._memory.heals) == 5
