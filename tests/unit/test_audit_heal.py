"""What is sent to mend a difference, in the form that Debezium and our workers take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import orjson
import pytest
from confluent_kafka import KafkaError

from audit.compare import StockSnapshot
from audit.continuous.heal import Healer
from audit.continuous.judge import Case
from audit.continuous.pages import Drawn, Pages
from audit.report import Difference, Fields
from connectors.envelope import read_stock_change
from connectors.policy_envelope import read_override_change
from connectors.routing import partition_of
from inventory.errors import Outage
from inventory.groups import AVAILABILITY, LEDGER, REPAIR, REPLACES
from inventory.policy import ChannelKind, ChannelOverride, ChannelPolicy
from inventory.stock import Operation, StockLevel, level_of
from inventory.topics import CHANNEL_SKU, SIGNALS, STOCK
from projections.checkpoint import CHECKPOINT_KEY
from projections.codec import encode_level, encode_override

POLICIES = (
    ChannelPolicy("web", ChannelKind.AVAILABILITY, "stock.web.v1"),
    ChannelPolicy("wms", ChannelKind.LEVEL, "stock.wms.v1"),
    ChannelPolicy("erp", ChannelKind.MOVEMENT, "stock.erp.v1"),
)


class Servers:
    """Postgres, Redis and Kafka, as far as a healer asks them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, dict, int, list]] = []
        self.hashes: dict[str, dict[bytes, bytes]] = {}
        self.refusal: KafkaError | None = None
        self.checkpoint: dict[bytes, bytes] = {}
        self.rows: dict[str, dict[str, StockLevel]] = {}
        self.overrides: dict[str, dict[str, ChannelOverride]] = {}
        self.last_drawn = Drawn(1_000, 500)
        self.flushed: list[int] = []
        self.reports: list[Callable[[], None]] = []

    def condition(self, skus) -> str:
        return f"sku IN {tuple(skus)}"

    def warehouse(self) -> str:
        return "W1"

    def drawn(self) -> Drawn:
        return self.last_drawn

    def of(self, skus) -> SimpleNamespace:
        stock = StockSnapshot(self.rows, POLICIES, overrides=self.overrides)
        return SimpleNamespace(stock=stock, now_us=0)

    def produce(self, topic, value, key, partition, headers, on_delivery) -> None:
        self.sent.append((topic, key, orjson.loads(value), partition, headers))
        self.reports.append(
            partial(on_delivery, self.refusal, SimpleNamespace(topic=lambda: topic))
        )

    def flush(self, timeout: float) -> int:
        self.flushed.append(len(self.sent))
        while self.reports:
            self.reports.pop()()
        return 0

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        return self.checkpoint if key == CHECKPOINT_KEY else self.hashes.get(key, {})

    def pipeline(self, transaction: bool) -> "Asking":
        return Asking(self)


class Asking:
    """A pipeline of Redis."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._keys: list[str] = []

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *_) -> None:
        return None

    def hgetall(self, key: str) -> None:
        self._keys.append(key)

    def execute(self) -> list[dict[bytes, bytes]]:
        return [*map(self._servers.hgetall, self._keys)]


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest.fixture
def healer(servers: Servers) -> Healer:
    healer = Healer("127.0.0.1:1", servers, servers, 6)  # type: ignore[arg-type]
    healer._producer = servers  # type: ignore[assignment]
    return healer


def case(place: str, warehouse: str | None, expected: Fields | None, found: Fields | None) -> Case:
    return Case("S", frozenset(), (Difference(place, "S", warehouse, expected, found),))


ROW = {"on_hand": 1, "reserved": 0, "version": 8}


def row(version: int, *, deleted: bool = False) -> StockLevel:
    return StockLevel(0 if deleted else 1, 0, 0, 0, None, version, 5, deleted)


@pytest.fixture
def has_row(servers: Servers) -> None:
    servers.rows["S"] = {"W1": row(8)}


@pytest.mark.usefixtures("has_row")
def test_a_repair_that_kafka_does_not_take_is_not_counted_as_one(servers: Servers, healer: Healer):
    servers.refusal = KafkaError(KafkaError._MSG_TIMED_OUT)
    with pytest.raises(Outage, match="tried again"):
        healer.heal([case("redis stock", "W1", ROW, None)], POLICIES)
    servers.refusal = None
    healer.heal([case("redis stock", "W1", ROW, None)], POLICIES)


@pytest.mark.parametrize(
    ("place", "warehouse"),
    [
        ("redis stock", "W1"),
        ("redis web", None),
        ("topic stock.web.v1", None),
        ("topic stock.wms.v1", "W1"),
    ],
)
@pytest.mark.usefixtures("has_row")
def test_what_postgres_has_is_read_again(servers: Servers, healer: Healer, place, warehouse):
    healer.heal([case(place, warehouse, ROW, None)], POLICIES)
    ((topic, key, signal, partition, _),) = servers.sent
    assert (topic, key, partition) == (SIGNALS, b"stockwire", 0)
    assert signal["type"] == "execute-snapshot"
    assert signal["data"]["data-collections"] == ["inventory.stock"]
    (condition,) = signal["data"]["additional-conditions"]
    assert condition == {"data-collection": "inventory.stock", "filter": "sku IN ('S',)"}


def test_an_override_that_is_missing_is_read_again(servers: Servers, healer: Healer):
    healer.heal([case("redis overrides", "web", {"version": 4}, None)], POLICIES)
    ((_, _, signal, _, _),) = servers.sent
    assert signal["data"]["data-collections"] == ["inventory.channel_sku"]


@pytest.mark.parametrize(
    ("place", "addressee"),
    [
        ("redis stock", AVAILABILITY),
        ("topic stock.wms.v1", LEDGER),
        ("topic stock.erp.v1", LEDGER),
    ],
)
def test_a_row_that_postgres_does_not_have_is_said_to_be_gone(
    servers: Servers, healer: Healer, place, addressee
):
    healer.heal([case(place, "W9", None, {"version": 8, "sum_on_hand": 3})], POLICIES)
    ((topic, key, envelope, partition, headers),) = servers.sent
    assert (topic, orjson.loads(key)) == (STOCK, {"sku": "S", "warehouse": "W9"})
    assert headers == [(REPAIR, addressee.encode())]
    assert 0 <= partition < 6
    change = read_stock_change(orjson.dumps(envelope))
    assert (change.operation, change.version) == (Operation.DELETE, 9)
    assert change.before is not None
    assert change.before.on_hand == 3, "what a ledger has booked is taken back"


def test_a_ledger_takes_back_once_what_two_channels_have(servers: Servers, healer: Healer):
    found = (
        Difference("topic stock.wms.v1", "S", "W9", None, {"version": 8}),
        Difference("topic stock.erp.v1", "S", "W9", None, {"version": 6, "sum_on_hand": 3}),
    )
    healer.heal([Case("S", frozenset(), found)], POLICIES)
    ((_, _, envelope, _, headers),) = servers.sent
    assert headers == [(REPAIR, LEDGER.encode())]
    assert (envelope["before"]["version"], envelope["before"]["on_hand"]) == (8, 3)


@pytest.mark.parametrize(("version", "gone"), [(8, 9), (9, 11)])
def test_a_ledger_that_has_less_than_nothing_is_told_a_balance_first(
    servers: Servers, healer: Healer, version: int, gone: int
):
    found = {"version": version, "sum_on_hand": -3, "sum_reserved": 2}
    healer.heal([case("topic stock.erp.v1", "W9", None, found)], POLICIES)
    told = [read_stock_change(orjson.dumps(envelope)) for _, _, envelope, _, _ in servers.sent]
    assert [headers for *_, headers in servers.sent] == [[(REPAIR, LEDGER.encode())]] * 2
    assert [change.operation for change in told] == [Operation.READ, Operation.DELETE]
    assert [change.version for change in told] == [gone - 1, gone]
    assert told[0].after is not None
    assert (told[0].after.on_hand, told[0].after.reserved) == (0, 0)


def test_a_deleted_row_that_a_ledger_still_has_units_of_is_deleted_once_more(
    servers: Servers, healer: Healer
):
    found = {"on_hand": 0, "reserved": 0, "version": 9, "sum_on_hand": 65, "sum_reserved": 0}
    healer.heal([case("topic stock.erp.v1", "W9", None, found)], POLICIES)
    ((_, _, envelope, _, _),) = servers.sent
    change = read_stock_change(orjson.dumps(envelope))
    assert change.before is not None
    assert (change.before.on_hand, change.version % 2, change.version > 9) == (65, 1, True)


def test_what_only_readers_have_is_said_to_be_gone_as_redis_knows_it(
    servers: Servers, healer: Healer
):
    gone = StockLevel(0, 0, 0, 0, None, 11, 5, deleted=True)
    servers.hashes["stock:{S}"] = {b"W7": encode_level(gone).encode()}
    healer.heal([case("redis web", None, None, {"available": 7})], POLICIES)
    ((topic, key, envelope, _, headers),) = servers.sent
    assert (topic, orjson.loads(key)) == (STOCK, {"sku": "S", "warehouse": "W7"})
    assert headers == [(REPAIR, AVAILABILITY.encode())]
    # A higher one might be the version that Postgres draws for the next row of this key.
    assert read_stock_change(orjson.dumps(envelope)).version == 11


def test_where_redis_knows_nothing_any_warehouse_will_do(servers: Servers, healer: Healer):
    healer.heal([case("topic stock.web.v1", None, None, {"available": 7})], POLICIES)
    assert orjson.loads(servers.sent[0][1]) == {"sku": "S", "warehouse": "W1"}


def test_an_override_that_postgres_does_not_have_is_said_to_be_gone(
    servers: Servers, healer: Healer
):
    found = ChannelOverride(6, 0, buffer=2, share=5_000, ring_fence=1)._asdict()
    found = {name: v for name, v in found.items() if name not in ("committed_us", "deleted")}
    healer.heal([case("redis overrides", "web", None, found)], POLICIES)
    ((topic, _, envelope, _, headers),) = servers.sent
    assert (topic, headers) == (CHANNEL_SKU, [])
    change = read_override_change(orjson.dumps(envelope))
    assert (change.sku, change.channel) == ("S", "web")
    assert (change.override.version, change.override.deleted) == (7, True)


@pytest.mark.parametrize("false", [{"buffer": 10**20}, {"buffer": -3}, {"share": 20_000}])
def test_what_a_ghost_override_says_is_not_sent_on(servers: Servers, healer: Healer, false: Fields):
    found = {"version": 6, "unreadable": "x", "ring_fence": 0, "blocked": False, **false}
    healer.heal([case("redis overrides", "web", None, found)], POLICIES)
    ((_, _, envelope, _, _),) = servers.sent
    change = read_override_change(orjson.dumps(envelope))
    assert (change.override.version, change.override.deleted) == (7, True)


FALSE = 2**60


@pytest.mark.usefixtures("has_row")
@pytest.mark.parametrize("deleted", [False, True])
def test_a_version_that_postgres_has_not_reached_makes_way_for_the_row(
    servers: Servers, healer: Healer, deleted: bool
):
    """A field that was falsified, or the marker of a ghost that hides what came after it."""
    servers.hashes["stock:{S}"] = {b"W1": encode_level(row(FALSE, deleted=deleted)).encode()}
    healer.heal([case("redis stock", "W1", {"version": 8}, {"version": FALSE})], POLICIES)
    right, signal = servers.sent
    assert (right[0], orjson.loads(right[1])) == (STOCK, {"sku": "S", "warehouse": "W1"})
    assert right[4] == [(REPAIR, AVAILABILITY.encode()), (REPLACES, str(FALSE).encode())]
    change = read_stock_change(orjson.dumps(right[2]))
    assert change.operation is Operation.READ
    assert level_of(change)._replace(committed_us=5) == row(8), "as Postgres has it, and no delete"
    assert signal[0] == SIGNALS
    assert servers.flushed == [1, 2], "what is read again comes behind what makes way for it"


def test_nothing_of_a_row_is_lost_on_the_way(servers: Servers, healer: Healer):
    short = StockLevel(3, 9, 2, 7, 1_795_300_000_123, 8, 5)
    servers.rows["S"] = {"W1": short}
    servers.hashes["stock:{S}"] = {b"W1": encode_level(row(FALSE)).encode()}
    healer.heal([case("redis stock", "W1", {"version": 8}, {"version": FALSE})], POLICIES)
    change = read_stock_change(orjson.dumps(servers.sent[0][2]))
    assert level_of(change)._replace(committed_us=5) == short


@pytest.mark.usefixtures("has_row")
def test_what_is_not_newer_in_redis_needs_no_making_way(servers: Servers, healer: Healer):
    servers.hashes["stock:{S}"] = {b"W1": encode_level(row(8)).encode()}
    healer.heal([case("redis stock", "W1", {"on_hand": 1}, {"on_hand": 9})], POLICIES)
    assert [topic for topic, *_ in servers.sent] == [SIGNALS]


@pytest.mark.parametrize(
    ("version", "gone", "replaces"),
    [(998, 999, None), (1_000, 1_001, None), (1_002, 1_001, 1_002), (FALSE + 1, 1_001, FALSE + 1)],
)
def test_a_ghost_never_hides_a_row_that_really_comes(
    servers: Servers, healer: Healer, version: int, gone: int, replaces: int | None
):
    """1,000 is the last version that was drawn, so the next row has 1,002."""
    healer.heal([case("redis stock", "W9", None, {"version": version})], POLICIES)
    ((_, _, envelope, _, headers),) = servers.sent
    assert read_stock_change(orjson.dumps(envelope)).version == gone
    found = dict(headers).get(REPLACES)
    assert found == (None if replaces is None else str(replaces).encode())


def test_a_marker_above_all_versions_gives_way_when_readers_are_told_again(
    servers: Servers, healer: Healer
):
    marker = row(FALSE + 1, deleted=True)
    servers.hashes["stock:{S}"] = {b"W7": encode_level(marker).encode()}
    healer.heal([case("redis web", None, None, {"available": 7})], POLICIES)
    ((_, _, envelope, _, headers),) = servers.sent
    assert read_stock_change(orjson.dumps(envelope)).version == 1_001
    assert dict(headers)[REPLACES] == str(FALSE + 1).encode()


def test_an_override_in_a_false_version_makes_way_alike(servers: Servers, healer: Healer):
    own = ChannelOverride(6, 0, 2, 5_000, 1, 0, 4, None, 3, True)
    servers.overrides["S"] = {"web": own}
    kept = ChannelOverride(FALSE, 0)
    servers.hashes["stock:{S}"] = {b":override:web": encode_override(kept).encode()}
    healer.heal([case("redis overrides", "web", {"version": 6}, {"version": FALSE})], POLICIES)
    right, signal = servers.sent
    assert (right[0], right[4]) == (CHANNEL_SKU, [(REPLACES, str(FALSE).encode())])
    change = read_override_change(orjson.dumps(right[2]))
    assert (change.operation, change.channel) == (Operation.READ, "web")
    assert change.override._replace(committed_us=0) == own, "still blocked, and still fenced"
    assert signal[2]["data"]["data-collections"] == ["inventory.channel_sku"]


def test_a_ghost_override_in_a_false_version_hides_none_that_comes(
    servers: Servers, healer: Healer
):
    found = ChannelOverride(FALSE, 0, buffer=2)._asdict()
    found = {name: v for name, v in found.items() if name not in ("committed_us", "deleted")}
    healer.heal([case("redis overrides", "web", None, found)], POLICIES)
    ((_, _, envelope, _, headers),) = servers.sent
    assert read_override_change(orjson.dumps(envelope)).override.version == 501
    assert headers == [(REPLACES, str(FALSE).encode())]


@pytest.mark.parametrize(("told", "heals"), [(1_001, True), (1_002, False)])
def test_nothing_makes_way_for_a_database_that_was_restored(
    servers: Servers, healer: Healer, told: int, heals: bool
):
    """Redis is right then, and `stockwire recover database` is to be run."""
    servers.rows["S"] = {"W1": row(8)}
    servers.checkpoint[b":version"] = str(told).encode()
    servers.hashes["stock:{S}"] = {b"W1": encode_level(row(told)).encode()}
    found = case("redis stock", "W1", {"version": 8}, {"version": told})
    if heals:
        healer.heal([found], POLICIES)
        return
    with pytest.raises(Outage, match="it was restored"):
        healer.heal([found], POLICIES)
    assert servers.sent == []


@pytest.mark.parametrize(
    ("place", "about"),
    [("redis stock", "W1"), ("topic stock.wms.v1", "W1"), ("redis overrides", "web")],
)
def test_what_has_come_since_is_no_ghost(servers: Servers, healer: Healer, place: str, about: str):
    servers.rows["S"] = {"W1": row(8)}
    servers.overrides["S"] = {"web": ChannelOverride(6, 0)}
    healer.heal([case(place, about, None, {"version": 8})], POLICIES)
    assert servers.sent == []


def test_a_ghost_goes_where_debezium_would_put_it_whatever_redis_says(
    servers: Servers, healer: Healer
):
    servers.hashes["stock:{S}"] = {b":partition": b"77"}
    healer.heal([case("redis stock", "W9", None, {"version": 8})], POLICIES)
    assert servers.sent[0][3] == partition_of("S", 6)


def test_a_hash_of_a_sku_that_is_gone_is_written_anew_where_it_cannot_be_read(
    servers: Servers, healer: Healer
):
    servers.hashes["stock:{S}"] = {b"": b"x", b":odd": b"1"}
    healer.heal([case("redis stock", None, None, {"unreadable": ":odd"})], POLICIES)
    ((topic, key, envelope, _, headers),) = servers.sent
    assert (topic, orjson.loads(key)) == (STOCK, {"sku": "S", "warehouse": "W1"})
    assert headers == [(REPAIR, AVAILABILITY.encode())]
    assert read_stock_change(orjson.dumps(envelope)).operation is Operation.DELETE


@pytest.mark.usefixtures("has_row")
def test_what_cannot_be_read_beside_rows_is_written_anew_with_them(
    servers: Servers, healer: Healer
):
    servers.hashes["stock:{S}"] = {b"W1": encode_level(row(8)).encode(), b":odd": b"1"}
    healer.heal([case("redis stock", None, None, {"unreadable": ":odd"})], POLICIES)
    ((topic, _, signal, _, _),) = servers.sent
    assert topic == SIGNALS
    assert signal["data"]["data-collections"] == ["inventory.stock"]


@pytest.mark.parametrize("last", [(None, 4), (4, None)])
def test_a_postgres_that_does_not_say_what_it_has_drawn_ends_no_auditor(last):
    """As after a restore without grants: all goes on, but for healing."""

    class Restored(Pages):
        @contextmanager
        def _reading(self) -> Iterator[SimpleNamespace]:
            rows = [*zip(("stock_version", "policy_version"), last, strict=True)]
            yield SimpleNamespace(execute=lambda _: SimpleNamespace(fetchall=lambda: rows))

    with pytest.raises(Outage, match="GRANT USAGE ON SEQUENCE"):
        Restored("").drawn()
