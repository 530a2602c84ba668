"""Which places are about to change anyway, and who is behind."""

from types import SimpleNamespace

import orjson
import pytest

from audit.continuous.pipeline import KafkaPipeline
from audit.continuous.told import Place
from inventory.policy import ChannelKind, ChannelPolicy, rules_digest
from inventory.standing import Standing, State
from inventory.topics import CHANNEL_SKU, STOCK
from projections.marks import BEHIND, NOT_WHOLE

WEB = ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1", version=2)
APP = ChannelPolicy("app", ChannelKind.AVAILABILITY, "stock.app.v1", version=4)
WMS = ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1", version=6)
POLICIES = (APP, WEB, WMS)
TOLD = {"web": rules_digest(WEB), "app": rules_digest(APP)}

WEB_PLACES = {"redis web", "topic stock.web.v1"}
APP_PLACES = {"redis app", "topic stock.app.v1"}


def standing(metadata: str) -> SimpleNamespace:
    return SimpleNamespace(offset=5, metadata=metadata)


class Pipeline(KafkaPipeline):
    """With everything that a server would answer in attributes."""

    def __init__(self) -> None:
        self.marks = {0: dict(TOLD), 1: dict(TOLD)}
        self.checkpoint: dict[bytes, bytes] = {}
        self.groups: dict[str, list[SimpleNamespace]] = {
            "stockwire-ledger.wms": [standing(Standing(State.LIVE, 5, "digest").metadata())] * 2
        }
        self._redis = self  # type: ignore[assignment]
        self._follower = SimpleNamespace(places=lambda topic: {0: Place(5)})  # type: ignore[assignment]

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        if key == "stockwire:checkpoint":
            return self.checkpoint
        return {str(n).encode(): orjson.dumps(told) for n, told in self.marks.items()}

    def _committed(self, group: str, places) -> list[SimpleNamespace]:
        return self.groups.get(group, [])


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


def test_where_all_are_told_everything_counts(pipeline: Pipeline):
    assert pipeline.unsettled(POLICIES, 2) == {}


@pytest.mark.parametrize("mark", [BEHIND, NOT_WHOLE, "digest"])
def test_what_is_left_of_a_channel_that_is_being_taken_out_does_not_count(
    pipeline: Pipeline, mark: str
):
    pipeline.marks[1]["shop"] = mark
    assert set(pipeline.unsettled(POLICIES, 2)) == {"redis shop"}


@pytest.mark.parametrize("mark", [None, NOT_WHOLE, "another digest"])
def test_an_edit_on_its_way_can_change_the_numbers_of_all(pipeline: Pipeline, mark: str | None):
    pipeline.marks[1]["web"] = mark  # type: ignore[assignment]
    assert pipeline.unsettled(POLICIES, 2).keys() == WEB_PLACES | APP_PLACES


def test_a_channel_that_is_behind_is_behind_alone(pipeline: Pipeline):
    pipeline.marks[1]["web"] = BEHIND
    assert pipeline.unsettled(POLICIES, 2).keys() == {"topic stock.web.v1"}


@pytest.mark.parametrize(
    "metadata",
    [
        Standing(State.JOINING, 5, "digest").metadata(),
        Standing(State.BEHIND, 5, "digest").metadata(),
        "",
        "garbage",
    ],
)
def test_a_channel_of_rows_that_is_not_told_live(pipeline: Pipeline, metadata: str):
    pipeline.groups["stockwire-ledger.wms"][1] = standing(metadata)
    assert pipeline.unsettled(POLICIES, 2).keys() == {"topic stock.wms.v1"}
    pipeline.groups.clear()
    assert pipeline.unsettled(POLICIES, 2).keys() == {"topic stock.wms.v1"}


def test_a_topic_that_was_not_read_does_not_count(pipeline: Pipeline):
    pipeline._follower = SimpleNamespace(  # type: ignore[assignment]
        places=lambda topic: {} if topic == APP.topic else {0: Place(5)}
    )
    assert pipeline.unsettled(POLICIES, 2).keys() == {"topic stock.app.v1"}


def test_who_is_behind(pipeline: Pipeline):
    ends = {(STOCK, 0): 7, (CHANNEL_SKU, 0): 3, (STOCK, 1): 0}

    def committed(stock: int, own: int) -> list[SimpleNamespace]:
        places = ((STOCK, stock), (CHANNEL_SKU, own))
        return [SimpleNamespace(topic=t, partition=0, offset=n) for t, n in places]

    pipeline.checkpoint = {f"{STOCK}/0".encode(): b"7", f"{CHANNEL_SKU}/0".encode(): b"2"}
    assert "Redis, which lacks" in (pipeline.behind(ends) or "")
    pipeline.checkpoint[f"{CHANNEL_SKU}/0".encode()] = b"3"
    pipeline.groups["stockwire-availability"] = committed(6, 3)
    pipeline.groups["stockwire-ledger"] = committed(7, 0)
    assert "stockwire-availability" in (pipeline.behind(ends) or "")
    pipeline.groups["stockwire-availability"] = committed(7, 3)
    assert pipeline.behind(ends) is None
    pipeline.groups["stockwire-ledger"] = committed(6, 0)
    assert "stockwire-ledger" in (pipeline.behind(ends) or "")
    pipeline.checkpoint[b":restoring/4"] = b"1"
    assert "restored" in (pipeline.behind(ends) or "")
    assert pipeline.unread({("web", 0): 5}) is None
    assert "web" in (pipeline.unread({("web", 0): 6}) or "")
