"""The cheap look passes nothing that the exact comparison would call drift, and sound SKUs pass."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from audit.continuous.screen import Seen, suspects
from audit.continuous.texts import booked_text, level_text
from audit.report import Fields, Key
from inventory.policy import ChannelKind, ChannelOverride
from inventory.stock import StockLevel
from tests.audit_world import POLICIES, World, world
from tests.histories import Change, histories

SKU = "S"
SELLERS = sorted(p.name for p in POLICIES if p.kind is ChannelKind.AVAILABILITY)
KINDS = {policy.topic: policy.kind for policy in POLICIES}

#: One of them with the echoes of a ledger left out, which only the exact rules know of.
ECHOING = tuple(
    replace(p, echo_of="sap") if p.kind is ChannelKind.MOVEMENT else p for p in POLICIES
)


def seen(there: World) -> Seen:
    """What `audit.lua` answers of this world; the real one is tested on a real Redis."""
    sound = there.report()
    same = not any(p.drift for p in sound.places if p.place in ("redis stock", "redis overrides"))
    shown = []
    for name in SELLERS:
        told = there.projection.channels.get(name, {}).get(Key(SKU))
        shown.append("" if told is None else _shown(told))
    return Seen(same, shown)


def _shown(told: Fields) -> str:
    names = ("available", "status", "backorderable", "order_limit", "version")
    return " ".join(str(told.get(name)) for name in names)


def said(there: World) -> dict[str, dict[str, tuple[str, int]]]:
    found: dict[str, dict[str, tuple[str, int]]] = {}
    for topic, snapshot in there.topics.items():
        for key, fields in snapshot.messages.items():
            last = _said(KINDS[topic], fields)
            found.setdefault(topic, {})[key.warehouse or ""] = last
    return found


def _said(kind: ChannelKind, fields: Fields) -> tuple[str, int]:
    version: Any = fields.get("version")
    if kind is ChannelKind.MOVEMENT:
        return booked_text(fields), version
    names: tuple[str, ...] = ("on_hand", "reserved", "safety_stock", "incoming", "available")
    if kind is ChannelKind.AVAILABILITY:
        names = ("available", "status", "backorderable", "order_limit", "restock_at")
    values = ["-" if fields.get(n) is None else str(fields[n]) for n in names]
    return " ".join(values), version


def is_suspect(there: World) -> bool:
    kept = {topic: snapshot.kept_since_us for topic, snapshot in there.topics.items()}
    answer = [seen(there)]
    return [*suspects(there.stock, [SKU], answer, {SKU: said(there)}, kept)] == [SKU]


_causes = st.lists(st.sampled_from([None, "sap"]), max_size=12)


@given(histories(), _causes)
def test_what_the_pipeline_leaves_passes(history: list[Change], causes: list[str | None]):
    assert not is_suspect(world(history, SKU, ECHOING, causes=causes))


def test_overrides_count():
    level = StockLevel(20, 2, 1, 0, None, 2, 1_795_235_627_000_000)
    there = world([("ams", level)], SKU, overrides={"web": ChannelOverride(2, 0, buffer=3)})
    assert not is_suspect(there)
    forgotten = replace(there, stock=replace(there.stock, overrides={}))
    assert is_suspect(forgotten)


@given(histories(), _causes, st.data())
def test_whatever_differs_is_suspect(history: list[Change], causes: list[str | None], data):
    there = world(history, SKU, ECHOING, causes=causes)
    broken = data.draw(_broken(there))
    if drift := broken.drift():
        assert is_suspect(broken), drift


@st.composite
def _broken(draw: st.DrawFn, there: World) -> World:
    """A world in which one field, row, message or answer is another one, or gone."""
    number = draw(st.sampled_from([0, 1, 7, 40]))
    status = draw(st.sampled_from(["in_stock", "low_stock", "out_of_stock"]))
    warehouse = draw(st.sampled_from(["ams", "lon", "nyc", "zzz"]))
    match draw(st.integers(0, 5)):
        case 0:
            field = draw(st.sampled_from(["on_hand", "reserved", "version", "incoming"]))
            return there.with_row(
                Key(SKU, warehouse), **{field: status if field == "status" else number}
            )
        case 1:
            channel = draw(st.sampled_from(SELLERS))
            told = there.projection.channels[channel].get(Key(SKU))
            field = draw(st.sampled_from(["available", "status", "order_limit", "version"]))
            return (
                there
                if told is None
                else there.with_told(
                    channel, Key(SKU), **{field: status if field == "status" else number}
                )
            )
        case 2:
            return there.without_told(draw(st.sampled_from(SELLERS)))
        case 3:
            return there.with_policies(*(replace(p, buffer=p.buffer + 3) for p in POLICIES))
        case 4:
            topic = draw(st.sampled_from(sorted(there.topics)))
            messages = there.topics[topic].messages
            keys = sorted(messages, key=str)
            return there.without_message(topic, draw(st.sampled_from(keys))) if keys else there
        case _:
            topic = draw(st.sampled_from(sorted(there.topics)))
            keys = sorted(there.topics[topic].messages, key=str)
            if not keys:
                return there
            names = ["available", "status", "on_hand", "sum_on_hand", "sum_reserved", "version"]
            field = draw(st.sampled_from(names))
            fields = there.topics[topic].messages[keys[0]]
            if field not in fields:
                return there
            return there.with_message(
                topic,
                draw(st.sampled_from(keys)),
                **{field: status if field == "status" else number},
            )


def test_a_level_too_many_is_suspect():
    level = StockLevel(20, 2, 1, 0, None, 2, 1_795_235_627_000_000)
    there = world([("ams", level)], SKU)
    ghost = there.with_message("stock.wms.v1", Key(SKU, "nyc"), on_hand=1, version=2)
    assert is_suspect(ghost)
    assert level_text(level) == "20 2 1 0 17"
