"""What every `Projector` does, the one in Redis and the one in memory alike."""

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventory.availability import promises
from inventory.errors import ProjectionLost
from inventory.policy import NO_OVERRIDES, ChannelKind, ChannelOverride, ChannelPolicy, PolicySet
from inventory.projection import ChannelState, SkuProjection, SkuState
from inventory.stock import StockLevel
from projections.checkpoint import CheckpointState
from projections.ports import Changes, Checkpoint, Replaced, SkuChanges, Written
from stockwire_client.contract import Status
from tests.histories import deliveries, histories, outcome

WEB = ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1")
APP = ChannelPolicy(
    "app",
    ChannelKind.AVAILABILITY,
    "stock.app.v1",
    warehouses=("ams", "lon"),
    buffer=2,
    share=5_000,
    low_stock_threshold=3,
)
WMS = ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1")
POLICIES = PolicySet.of([WEB, APP, WMS])
NOW = 1_795_235_627_000_000

AWKWARD_SKUS = (
    "SKU 1",
    "a:b::c",
    "{a}",
    "}{",
    "{}",
    "%7B{%25",
    '"quoted"',
    "it's",
    "back\\slash",
    "naïve ☃ 漢字 🎈",
    "tab\tnewline\nnul\0",
    "x" * 200,
    "🎈" * 200,
)

PLACE, OTHER = ("stock", 0), ("sku", 0)
STEPS = ("write", "load", "check", "lose", "fall back")
PARTS = st.integers(0, 2)

_counter = itertools.count()


def fresh_sku() -> str:
    """A SKU that no other test and no other example uses."""
    return f"SKU-{next(_counter)}"


def level(version: int, on_hand: int = 10, committed_us: int = NOW, **fields) -> StockLevel:
    values = {"reserved": 0, "safety_stock": 0, "incoming": 0, "incoming_at": None, **fields}
    return StockLevel(on_hand=on_hand, version=version, committed_us=committed_us, **values)


def gone(version: int, committed_us: int = NOW) -> StockLevel:
    return StockLevel(0, 0, 0, 0, None, version, committed_us, deleted=True)


#: SKU → warehouse → the level to write.
Levels = Mapping[str, Mapping[str, StockLevel]]


class Driver(ABC):
    """Drives a projector from a test, and looks at what it keeps."""

    @abstractmethod
    def send(self, changes: Changes, policies: PolicySet, checkpoint: Checkpoint) -> Written: ...

    @abstractmethod
    def apply(self, changes: Changes) -> None:
        """The first of the two steps of a write."""

    @abstractmethod
    def alerted(self, versions: Mapping[str, int]) -> None: ...

    @abstractmethod
    def state(self, sku: str) -> SkuState: ...

    @abstractmethod
    def begin(self, known: Checkpoint, restoring: Collection[int] = ()) -> None:
        """What a worker does after an assignment; what it restores is noted as such."""

    @abstractmethod
    def check(self) -> None: ...

    @abstractmethod
    def load(self, changes: Changes, checkpoint: Checkpoint) -> None: ...

    @abstractmethod
    def checkpoints(self) -> CheckpointState: ...

    @abstractmethod
    def lose(self, kept: Checkpoint) -> None:
        """Leave these checkpoints alone, and no others."""

    def checkpoint(self) -> Checkpoint:
        return self.checkpoints().offsets

    def write(
        self, levels: Levels, policies: PolicySet = POLICIES, checkpoint: Checkpoint | None = None
    ) -> list[SkuProjection]:
        changes = {sku: SkuChanges(rows) for sku, rows in levels.items()}
        return self.send(changes, policies, checkpoint or {}).projections

    def write_one(self, sku: str, policies: PolicySet = POLICIES, **levels) -> SkuProjection:
        (projection,) = self.write({sku: levels}, policies)
        return projection

    def override(self, sku: str, **overrides) -> SkuProjection:
        (projection,) = self.send({sku: SkuChanges({}, overrides)}, POLICIES, {}).projections
        return projection

    def crash_after_apply(self, levels: Levels) -> None:
        """A write that ends between its two steps."""
        self.apply({sku: SkuChanges(rows) for sku, rows in levels.items()})


def numbers(projection: SkuProjection | None):
    """What a projection says, without its history."""
    assert projection is not None
    return {
        channel: state and (state.available, state.status, state.restock_at)
        for channel, state in projection.channels.items()
    }


def expected_numbers(levels, policies: PolicySet, previous=None):
    promised = promises(levels, NO_OVERRIDES, policies.policies, previous or {})
    return {
        name: now and (now.available, now.status, now.restock_at) for name, now in promised.items()
    }


def assert_numbers(projection: SkuProjection | None, levels) -> None:
    """What a projection lists is what the formula says of these levels.

    The hysteresis depends on the way: the status must be one that would stay.
    """
    listed = {name: told for name, told in numbers(projection).items() if told}
    statuses = {name: status for name, (_, status, _) in listed.items()}
    expected = expected_numbers(levels, POLICIES, statuses)
    assert listed == {name: told for name, told in expected.items() if told}


on_fresh_skus = settings(
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


class ProjectorContract:
    """Subclass it with a `driver` fixture."""

    @on_fresh_skus
    @given(data=st.data())
    def test_any_delivery_ends_like_delivery_in_order(self, driver: Driver, data):
        history = data.draw(histories())
        batches = data.draw(deliveries(history))
        ordered, shuffled = fresh_sku(), fresh_sku()
        for warehouse, changed in history:
            driver.write_one(ordered, **{warehouse: changed})
        told = [driver.write_one(shuffled, **batch) for batch in batches]

        assert driver.state(ordered).levels == outcome(history)
        assert driver.state(shuffled).levels == outcome(history)
        for sku in (ordered, shuffled):
            assert_numbers(driver.state(sku).published, outcome(history))
        for before, after in itertools.pairwise(told):
            if after.revision == before.revision:
                assert after == before
            else:
                assert after.version > before.version

    def test_a_first_change_lists_the_sku(self, driver: Driver):
        sku = fresh_sku()
        restock = NOW // 1000 + 5
        projection = driver.write_one(
            sku, nyc=level(2, 7, reserved=1), ams=level(4, 12, incoming=3, incoming_at=restock)
        )
        assert projection.sku == sku
        assert projection.channels == {
            "web": ChannelState(18, Status.IN_STOCK, None, NOW, NOW, restock, 0, 18, None),
            "app": ChannelState(5, Status.IN_STOCK, None, NOW, NOW, restock, 0, 5, None),
        }

    def test_the_clock_is_the_commit_time_or_the_previous_plus_one(self, driver: Driver):
        sku = fresh_sku()
        versions = [
            driver.write_one(sku, ams=level(2, committed_us=NOW)).version,
            driver.write_one(sku, ams=level(4, committed_us=NOW)).version,
            driver.write_one(sku, ams=level(6, committed_us=NOW - 50)).version,
            driver.write_one(sku, ams=level(8, committed_us=NOW + 500)).version,
        ]
        assert versions == [NOW, NOW + 1, NOW + 2, NOW + 500]

    def test_it_tells_what_was_available_before(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(2, 10))
        projection = driver.write_one(sku, ams=level(4, 9))
        assert projection.channels["web"] == ChannelState(
            9, Status.IN_STOCK, 10, NOW + 1, NOW, None, 0, 9, Status.IN_STOCK
        )

    def test_a_replay_tells_the_same_again(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(2, 10))
        told = driver.write_one(sku, ams=level(4, 9))
        kept = driver.state(sku)
        assert driver.write_one(sku, ams=level(4, 9)) == told
        assert driver.write_one(sku, ams=level(2, 10)) == told
        assert driver.state(sku) == kept

    def test_a_crash_between_the_steps_is_completed_by_the_replay(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(2, 10))
        driver.crash_after_apply({sku: {"ams": level(4, 9)}})
        projection = driver.write_one(sku, ams=level(4, 9))
        state = projection.channels["web"]
        assert state is not None
        assert (state.available, state.previous_available) == (9, 10)
        assert driver.state(sku).published == projection

    def test_a_crash_of_the_very_first_write_is_completed_by_the_replay(self, driver: Driver):
        sku = fresh_sku()
        driver.crash_after_apply({sku: {"ams": level(2, 10)}})
        assert numbers(driver.write_one(sku, ams=level(2, 10))) == expected_numbers(
            {"ams": level(2, 10)}, POLICIES
        )

    def test_a_delete_is_a_tombstone_and_stays_a_guard(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(2))
        deleted = driver.write_one(sku, ams=gone(3))
        assert deleted.channels == {"web": None, "app": None}
        assert deleted.version == NOW + 1
        assert driver.write_one(sku, ams=level(2)) == deleted, "a stale row does not come back"

        again = driver.write_one(sku, ams=level(4, 6))
        assert again.version == NOW + 2
        assert again.channels["web"] == ChannelState(
            6, Status.IN_STOCK, None, NOW + 2, NOW, None, 0, 6, None
        )

    def test_tombstones_are_repeated_for_who_missed_them(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(2))
        driver.write_one(sku, ams=gone(3))
        projection = driver.write_one(sku, nyc=level(4, 8))
        web = projection.channels["web"]
        assert web is not None
        assert web.available == 8
        assert projection.channels["app"] is None

    def test_a_channel_that_does_not_list_the_sku_hears_that_it_is_gone(self, driver: Driver):
        """What was told before Redis lost its data is not known: a tombstone is right always."""
        projection = driver.write_one(fresh_sku(), nyc=level(2))
        assert {name: state is None for name, state in projection.channels.items()} == {
            "web": False,
            "app": True,
        }
        gone_at_once = driver.write_one(fresh_sku(), ams=gone(3))
        assert gone_at_once.channels == {"web": None, "app": None}

    def test_other_policies_are_projected_anew(self, driver: Driver):
        sku = fresh_sku()
        first = driver.write_one(sku, ams=level(2, 10))
        other = PolicySet.of([dataclasses.replace(WEB, buffer=4)])
        projection = driver.write_one(sku, other)
        assert projection.version == first.version + 1
        assert projection.channels == {
            "web": ChannelState(
                6, Status.IN_STOCK, 10, first.version + 1, NOW, None, 0, 6, Status.IN_STOCK
            )
        }
        assert driver.write_one(sku, other) == projection
        assert driver.write_one(sku, POLICIES).version == first.version + 2

    def test_what_a_sku_has_of_its_own_counts_at_once(self, driver: Driver):
        sku = fresh_sku()
        first = driver.write_one(sku, ams=level(2, 10))
        own = driver.override(sku, web=ChannelOverride(6, NOW + 5, buffer=5))
        assert numbers(own)["web"] == (5, Status.LOW_STOCK, None)
        assert own.version == NOW + 5 > first.version, "the override's commit is the latest change"
        stale = driver.override(sku, web=ChannelOverride(4, NOW, buffer=9))
        assert stale == own
        gone = driver.override(sku, web=ChannelOverride(7, NOW + 9, deleted=True))
        assert numbers(gone)["web"] == (10, Status.IN_STOCK, None)
        assert driver.override(sku, web=ChannelOverride(6, NOW + 5, buffer=5)) == gone

    def test_a_ring_fence_is_told_to_the_other_channels(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(2, 20))
        projection = driver.override(sku, app=ChannelOverride(2, NOW, ring_fence=12))
        assert numbers(projection)["web"] == (8, Status.IN_STOCK, None)
        assert numbers(projection)["app"] == (12 + (20 - 12 - 2) // 2, Status.IN_STOCK, None)

    def test_an_override_may_come_before_the_stock(self, driver: Driver):
        sku = fresh_sku()
        assert driver.override(sku, web=ChannelOverride(2, NOW, blocked=True)).channels == {}
        told = driver.write_one(sku, ams=level(2, 10))
        assert numbers(told)["web"] == (0, Status.SKU_BLOCKED, None)

    def test_the_partition_of_the_latest_change_is_kept(self, driver: Driver):
        sku = fresh_sku()
        driver.send({sku: SkuChanges({"ams": level(2)}, partition=3)}, POLICIES, {})
        assert driver.state(sku).partition == 3
        driver.write_one(sku)
        assert driver.state(sku).partition == 3
        driver.send({sku: SkuChanges({"ams": level(4)}, partition=5)}, POLICIES, {})
        assert driver.state(sku).partition == 5

    def test_a_channel_that_is_gone_is_told_so_until_it_is_forgotten(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(2, 10))
        departed = PolicySet.of([WEB], {"app": "stock.app.v1"})
        assert driver.write_one(sku, departed, ams=level(4, 9)).channels["app"] is None
        assert driver.write_one(sku, departed, ams=level(6, 8)).channels["app"] is None
        forgotten = driver.write_one(sku, PolicySet.of([WEB]), ams=level(8, 7))
        assert set(forgotten.channels) == {"web"}

    def test_a_replay_is_told_from_a_change_and_knows_whether_its_alerts_are_out(
        self, driver: Driver
    ):
        sku = fresh_sku()
        changes = {sku: SkuChanges({"ams": level(4, 0)})}
        driver.write_one(sku, ams=level(2, 10))
        first = driver.send(changes, POLICIES, {})
        assert (first.replayed, first.unalerted) == (frozenset(), frozenset())
        assert first.projections[0].crosses
        again = driver.send(changes, POLICIES, {})
        assert (again.replayed, again.unalerted) == ({sku}, {sku})
        driver.alerted({sku: again.projections[0].version})
        known = driver.send(changes, POLICIES, {})
        assert (known.replayed, known.unalerted) == ({sku}, frozenset())
        assert known.projections == first.projections

    def test_an_unknown_sku_without_levels_leaves_nothing(self, driver: Driver):
        sku = fresh_sku()
        assert driver.write_one(sku).channels == {}
        assert driver.state(sku) == SkuState(sku, 0, {}, None)

    def test_many_skus_come_back_in_order(self, driver: Driver):
        skus = [fresh_sku() for _ in range(1201)]
        driver.write({sku: {"ams": level(2)} for sku in skus[::2]})
        projections = driver.write({sku: {"ams": level(4, i)} for i, sku in enumerate(skus)})
        assert [projection.sku for projection in projections] == skus
        assert [p.channels["web"].available for p in projections if p.channels["web"]] == [
            *range(1201)
        ]

    def test_awkward_skus_are_kept_apart(self, driver: Driver):
        changes = {sku: {"wh % {1}": level(2, i)} for i, sku in enumerate(AWKWARD_SKUS)}
        projections = driver.write(changes)
        assert [projection.sku for projection in projections] == list(AWKWARD_SKUS)
        for i, sku in enumerate(AWKWARD_SKUS):
            assert driver.state(sku).levels == {"wh % {1}": level(2, i)}
            assert numbers(driver.state(sku).published) == expected_numbers(changes[sku], POLICIES)

    def test_versions_that_no_float_tells_apart(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(2**62))
        driver.write_one(sku, ams=gone(2**62 + 1))
        assert driver.write_one(sku, ams=level(2**62)).channels == {"web": None, "app": None}
        driver.write_one(sku, ams=level(999, 1))
        assert driver.state(sku).levels["ams"] == gone(2**62 + 1)

    def test_checkpoints_only_rise(self, driver: Driver):
        driver.write({}, checkpoint={("stock", 0): 5, ("stock", 1): 10})
        driver.write({}, checkpoint={("stock", 0): 4, ("stock", 1): 100, ("other", 0): 1})
        driver.write({fresh_sku(): {"ams": level(2)}}, checkpoint={("stock", 1): 99})
        assert driver.checkpoint() == {("stock", 0): 5, ("stock", 1): 100, ("other", 0): 1}

    def test_the_highest_row_version_is_kept(self, driver: Driver):
        driver.write({fresh_sku(): {"ams": level(2**62), "nyc": level(8)}}, checkpoint={PLACE: 5})
        driver.write({fresh_sku(): {"ams": gone(999)}}, checkpoint={PLACE: 6})
        assert driver.checkpoints().version == 2**62

    def test_the_version_of_a_ghost_is_none_of_postgres(self, driver: Driver):
        driver.write({fresh_sku(): {"ams": level(8)}}, checkpoint={PLACE: 5})
        ghost = SkuChanges({"ams": gone(999)}, repair=True, ghost=True)
        driver.load({fresh_sku(): ghost}, {PLACE: 6})
        assert driver.checkpoints().version == 8

    @pytest.mark.parametrize("kept", [{}, {("stock", 1): 9}, {PLACE: 4}, {PLACE: 4, OTHER: 7}])
    def test_no_checkpoint_is_raised_over_a_hole(self, driver: Driver, kept):
        driver.begin({})
        driver.write({fresh_sku(): {"ams": level(2)}}, checkpoint={PLACE: 5, OTHER: 7})
        driver.lose(kept)
        sku = fresh_sku()
        for _ in range(2):
            with pytest.raises(ProjectionLost):
                driver.check()
            with pytest.raises(ProjectionLost):
                driver.write({sku: {"ams": level(4)}}, checkpoint={PLACE: 6, OTHER: 8})
            with pytest.raises(ProjectionLost):
                driver.write({sku: {}})
            with pytest.raises(ProjectionLost):
                driver.load({sku: SkuChanges({"ams": level(4)})}, {PLACE: 6})
        assert driver.checkpoint() == kept
        assert driver.state(sku).published is None, "nothing is projected from a state with holes"

    def test_more_than_was_acknowledged_is_no_loss(self, driver: Driver):
        """The reply may have been lost, and another worker may have been faster."""
        driver.lose({PLACE: 50})
        driver.begin({PLACE: 5})
        driver.check()
        driver.write({fresh_sku(): {"ams": level(2)}}, checkpoint={PLACE: 6})
        assert driver.checkpoint() == {PLACE: 50}

    def test_rows_are_loaded_without_being_projected(self, driver: Driver):
        sku = fresh_sku()
        driver.begin({}, restoring=[0])
        driver.load({sku: SkuChanges({"ams": level(2, 9)}, partition=0)}, {PLACE: 5})
        driver.load({sku: SkuChanges({"ams": level(2, 7)}, partition=0)}, {PLACE: 6})
        state = driver.state(sku)
        assert (state.levels, state.published, state.partition) == ({"ams": level(2, 9)}, None, 0)
        assert driver.checkpoint() == {PLACE: 6}
        assert driver.checkpoints().restoring == {0}
        assert numbers(driver.write_one(sku))["web"] == (9, Status.IN_STOCK, None)

    def test_the_loss_of_what_is_being_restored_is_noticed_from_the_start(self, driver: Driver):
        driver.begin({}, restoring=[0])
        driver.lose({})
        with pytest.raises(ProjectionLost):
            driver.load({fresh_sku(): SkuChanges({"ams": level(2)})}, {PLACE: 5})
        assert driver.checkpoint() == {}

    def test_a_repair_writes_the_same_version_and_tells_it_anew(self, driver: Driver):
        sku = fresh_sku()
        before = driver.write_one(sku, ams=level(6, 9), nyc=level(8, 1))
        repair = SkuChanges({"ams": level(6, 4), "nyc": level(4, 7)}, repair=True)
        written = driver.send({sku: repair}, POLICIES, {})
        (told,) = written.projections
        assert driver.state(sku).levels == {"ams": level(6, 4), "nyc": level(8, 1)}
        assert numbers(told)["web"] == (5, Status.LOW_STOCK, None)
        assert told.version > before.version
        assert written.replayed == frozenset()
        (again,) = driver.send({sku: repair}, POLICIES, {}).projections
        assert numbers(again) == numbers(told)
        assert again.version > told.version, "whoever missed it hears it"
        assert driver.state(sku).published == again

    def test_a_row_that_was_read_before_its_last_change_has_the_sku_told_anew_all_the_same(
        self, driver: Driver
    ):
        sku = fresh_sku()
        before = driver.write_one(sku, ams=level(6, 9))
        repair = SkuChanges({"ams": level(4, 3)}, repair=True)
        (told,) = driver.send({sku: repair}, POLICIES, {}).projections
        assert numbers(told) == numbers(before)
        assert told.version > before.version

    def test_an_override_is_repaired_alike(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(2, 10))
        driver.override(sku, web=ChannelOverride(6, NOW, buffer=5))
        own = {"web": ChannelOverride(6, NOW, buffer=7)}
        (told,) = driver.send({sku: SkuChanges({}, own, repair=True)}, POLICIES, {}).projections
        assert numbers(told)["web"] == (3, Status.LOW_STOCK, None)

    @pytest.mark.parametrize("false", [1_000, 2**62, 10**30])
    def test_a_version_that_is_known_to_be_false_gives_way_to_a_lower_one(
        self, driver: Driver, false: int
    ):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(false, 99), nyc=level(8, 1))
        gone_at = Replaced({"ams": false})
        makes_way = SkuChanges({"ams": gone(3)}, repair=True, ghost=True, replaced=gone_at)
        (told,) = driver.send({sku: makes_way}, POLICIES, {}).projections
        assert driver.state(sku).levels == {"ams": gone(3), "nyc": level(8, 1)}
        assert numbers(told)["web"] == (1, Status.LOW_STOCK, None)
        truth = SkuChanges({"ams": level(4, 7)}, repair=True)
        (told,) = driver.send({sku: truth}, POLICIES, {}).projections
        assert driver.state(sku).levels["ams"] == level(4, 7)
        driver.send({sku: makes_way}, POLICIES, {})
        assert driver.state(sku).levels["ams"] == level(4, 7), "a replay finds nothing to replace"

    def test_what_comes_with_it_takes_the_false_ones_place(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(1_000, 99))
        both = SkuChanges({"ams": level(4, 7)}, repair=True, replaced=Replaced({"ams": 1_000}))
        driver.send({sku: both}, POLICIES, {})
        assert driver.state(sku).levels == {"ams": level(4, 7)}

    @pytest.mark.parametrize("other", [998, 1_002, 100, 10_000])
    def test_only_the_false_version_itself_gives_way(self, driver: Driver, other: int):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(1_000, 9))
        changes = SkuChanges({"ams": gone(3)}, repair=True, replaced=Replaced({"ams": other}))
        driver.send({sku: changes}, POLICIES, {})
        assert driver.state(sku).levels == {"ams": level(1_000, 9)}

    def test_a_false_override_gives_way_alike(self, driver: Driver):
        sku = fresh_sku()
        driver.write_one(sku, ams=level(2, 10))
        driver.override(sku, web=ChannelOverride(2**60, NOW, blocked=True))
        own = {"web": ChannelOverride(5, NOW, deleted=True)}
        false = Replaced(overrides={"web": 2**60})
        (told,) = driver.send({sku: SkuChanges({}, own, replaced=false)}, POLICIES, {}).projections
        assert driver.state(sku).overrides == own
        assert numbers(told)["web"] == (10, Status.IN_STOCK, None)

    @on_fresh_skus
    @given(plan=st.lists(st.tuples(st.sampled_from(STEPS), PARTS, PARTS), max_size=20))
    def test_what_is_confirmed_is_known_or_its_loss_is_noticed(self, driver: Driver, plan):
        """Whatever is lost and when: a write that returns leaves no hole behind."""
        driver.lose({})
        driver.begin({})
        confirmed: dict[tuple[str, int], int] = {}
        harmed = False
        for step, part, other in plan:
            place = ("stock", part)
            offset = confirmed.get(place, 0) + 1 + other
            lost = any(driver.checkpoint().get(p, 0) < o for p, o in confirmed.items())
            harmed = harmed or step in ("lose", "fall back")
            try:
                if step == "lose":
                    kept = dict(driver.checkpoint())
                    kept.pop(place, None)
                    driver.lose(kept if other else {})
                    continue
                if step == "fall back":
                    driver.lose({p: max(0, o - other) for p, o in driver.checkpoint().items()})
                    continue
                if step == "check":
                    driver.check()
                elif step == "load":
                    driver.load({}, {place: offset})
                    confirmed[place] = offset
                else:
                    driver.write({}, checkpoint={place: offset})
                    confirmed[place] = offset
                assert not lost
            except ProjectionLost:
                assert harmed
                harmed = False
                # As after the next assignment: from where Redis is.
                confirmed = dict(driver.checkpoint())
                driver.begin(confirmed)
