"""The parts of a rebuild that need no server: its bounds, and what it says of itself."""

import multiprocessing
import socket
import threading
import time
from types import SimpleNamespace
from typing import ClassVar

import pytest
from confluent_kafka import KafkaError

from inventory.errors import Outage, RebuildError
from inventory.topics import CHANNEL_SKU, STOCK
from projections.ports import Replaced
from rebuild import crew, follow, rows, session, topics
from rebuild.crew import Crew, From, Job, Task
from rebuild.follow import Follower
from rebuild.portion import Portion
from rebuild.progress import Standing
from rebuild.session import Session
from rebuild.topics import Following, part_of
from tests.recorded import altered

PART, OTHER = part_of(STOCK, 0), part_of(CHANNEL_SKU, 0)


class Message:
    """A tombstone: counted, and nothing else."""

    def __init__(self, part, offset):
        self._place = topics.place_of(part)
        self._offset = offset

    def topic(self):
        return self._place[0]

    def partition(self):
        return self._place[1]

    def offset(self):
        return self._offset

    def error(self):
        return None

    def value(self):
        return None

    def headers(self):
        return None


class Broker:
    """A consumer of endless parts, all of the same pace."""

    def __init__(self):
        self.next = {}

    def assign(self, places):
        self.next = {part_of(place.topic, place.partition): place.offset for place in places}

    def incremental_assign(self, places):
        self.next |= {part_of(place.topic, place.partition): place.offset for place in places}

    def incremental_unassign(self, places):
        for place in places:
            del self.next[part_of(place.topic, place.partition)]

    def consume(self, number, timeout):
        found = []
        for part in sorted(self.next):
            for _ in range(number // len(self.next)):
                found.append(Message(part, self.next[part]))
                self.next[part] += 1
        return found

    def close(self):
        pass


@pytest.fixture
def following(monkeypatch):
    monkeypatch.setattr(topics, "open_consumer", lambda _: Broker())
    monkeypatch.setattr(topics, "RECORDS", 60)
    monkeypatch.setattr(topics, "_WAITING", 100)
    return Following("", {PART: 0, OTHER: 0})


def test_no_more_is_held_than_a_bound_however_far_the_workers_are_behind(following):
    applied = 0
    for _ in range(100):
        following.poll()
        applied += 30
        following.upto({PART: 0, OTHER: applied})
        assert following.waiting <= 2 * 100
    portion = following.upto({PART: 0, OTHER: applied})
    assert portion.positions == {PART: "0", OTHER: str(applied)}, "the other part goes on"


def test_every_record_comes_once_after_a_part_was_held(following):
    seen = 0
    for _ in range(20):
        following.poll()
    for applied in range(0, 2_000, 70):
        following.poll()
        seen += following.upto({PART: applied, OTHER: 0}).records
    for _ in range(5):
        following.poll()
        seen += following.upto({PART: applied, OTHER: 0}).records
    assert seen == applied


class Failure(Message):
    """An error of the whole client, not of a partition."""

    def __init__(self, *, passes):
        reason = "all brokers are down"
        self._error = KafkaError(KafkaError._ALL_BROKERS_DOWN, reason, False, passes)

    def topic(self):
        return None

    partition = offset = topic

    def error(self):
        return self._error


def test_an_error_of_no_partition_passes_or_is_an_outage(following, monkeypatch):
    monkeypatch.setattr(Broker, "consume", lambda *_, **__: [Failure(passes=True)])
    following.poll()
    assert following.upto({PART: 0, OTHER: 0}).positions == {PART: "0", OTHER: "0"}
    monkeypatch.setattr(Broker, "consume", lambda *_, **__: [Failure(passes=False)])
    with pytest.raises(Outage, match="all brokers are down"):
        following.poll()


class Quiet:
    """Topics without any more records, and whatever else a follower needs."""

    live = None
    reached: ClassVar = {PART: "7"}

    def __init__(self, *_):
        pass

    def poll(self):
        pass

    def upto(self, _applied):
        return Portion({}, self.reached, 0)

    def take(self, _portion):
        return None


@pytest.fixture
def follower(monkeypatch):
    """It has all that the topic has: seven records."""
    monkeypatch.setattr(follow, "Following", Quiet)
    monkeypatch.setattr(follow, "ends", lambda _: {PART: 7})
    quiet = Quiet()
    return Follower(quiet, "", quiet, quiet, {PART: 7})


def test_a_checkpoint_beyond_the_end_of_its_topic_is_not_waited_for(follower, monkeypatch):
    monkeypatch.setattr(follow, "applied", lambda _: {PART: 9})
    looks = iter(range(10))
    with pytest.raises(RebuildError, match="up to 9, but it ends at 7"):
        follower.until_close(lambda *_: next(looks))


def test_a_partition_that_was_added_meanwhile_is_not_waited_for(follower, monkeypatch):
    monkeypatch.setattr(follow, "applied", lambda _: {PART: 7})
    follower.until_close(lambda *_: None)
    monkeypatch.setattr(follow, "applied", lambda _: {PART: 7, OTHER: 1})
    with pytest.raises(RebuildError, match="if partitions have been added"):
        follower.until_close(lambda *_: None)


@pytest.fixture
def blackhole():
    """The port of a server that takes connections, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_leaving_a_crew_does_not_wait_for_a_server_that_is_out_of_reach(monkeypatch, blackhole):
    monkeypatch.setattr(crew, "_PATIENCE", 0.5)
    conninfo = f"host=127.0.0.1 port={blackhole} user=x dbname=x"
    redis = f"redis://127.0.0.1:{blackhole}/0"
    job = Job(
        *(Task.MEND, From.POSTGRES, "", conninfo, redis, redis, (), {}),
        Session("this run", "0"),
    )
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Crew(job, Standing({"end:part": ""}), 1):
        raise KeyboardInterrupt
    assert time.monotonic() - started < 5
    assert multiprocessing.active_children() == []


def test_a_crew_begins_with_any_number_of_parts(monkeypatch, blackhole):
    """More than a pipe holds that nobody reads yet."""
    monkeypatch.setattr(crew, "_PATIENCE", 0.5)
    redis = f"redis://127.0.0.1:{blackhole}/0"
    conninfo = f"host=127.0.0.1 port={blackhole} user=x dbname=x"
    job = Job(
        *(Task.MEND, From.POSTGRES, "", conninfo, redis, redis, (), {}),
        Session("this run", "0"),
    )
    standing = Standing({f"end:{'x' * 100}/{number}": "9" for number in range(2_048)})

    def begin():
        with Crew(job, standing, 1):
            pass

    beginning = threading.Thread(target=begin, daemon=True)
    beginning.start()
    beginning.join(20)
    assert not beginning.is_alive()


def test_each_part_is_taken_once():
    taken = multiprocessing.Value("i", 0)
    assert [crew._take(taken) for _ in range(3)] == [0, 1, 2]


def test_overrides_come_before_the_stock_in_whatever_order_redis_has_them():
    facts = {f"end:{part_of(topic, n)}": "9" for n in (1, 0) for topic in (STOCK, CHANNEL_SKU)}
    left = Standing({**facts, f"done:{OTHER}": "1"}).left
    assert left == [part_of(CHANNEL_SKU, 1), PART, part_of(STOCK, 1)]


def test_a_redis_that_is_silent_is_asked_once(monkeypatch, blackhole):
    monkeypatch.setattr(session, "_REDIS_SECONDS", 0.3)
    started = time.monotonic()
    with (
        session.open_redis(f"redis://127.0.0.1:{blackhole}/0") as redis,
        pytest.raises(Outage, match="Redis takes no work"),
    ):
        session.run_id_of(redis)
    assert time.monotonic() - started < 0.9


def test_a_statement_that_is_never_answered_is_cut_off():
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours, theirs:
        started = time.monotonic()
        with rows._bounded(ours, 0.2):
            assert ours.recv(1) == b""
        assert time.monotonic() - started < 5


def test_a_statement_that_is_answered_leaves_the_connection_alone():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with rows._bounded(ours, 0.2):
            theirs.send(b"1")
            assert ours.recv(1) == b"1"
        ours.settimeout(0.5)
        with pytest.raises(TimeoutError):
            ours.recv(1)


def test_of_a_compacted_topic_the_offsets_are_what_is_done():
    facts = {"first": "10", "whole": "90", "end:a": "60", "at:a": "30", "end:b": "40", "at:b": "5"}
    standing = Standing({**facts, "at:beside": "7", "records": "3"})
    assert (standing.done, standing.whole) == (25, 90)


def test_of_postgres_the_rows_are_what_is_done():
    standing = Standing({"whole": "90", "end:after ": "", "at:after ": "SKU-7", "records": "3"})
    assert (standing.done, standing.whole) == (3, 90)


def record(topic: str, value: bytes, *headers: tuple[str, bytes]) -> SimpleNamespace:
    """A message of Kafka's, as far as it is read."""
    return SimpleNamespace(
        topic=lambda: topic,
        value=lambda: value,
        headers=lambda: [*headers],
        partition=lambda: 3,
    )


def test_a_version_that_the_auditor_calls_false_loses_against_what_replaces_it():
    false = altered("stock_update", after__version=9_000, after__on_hand=99).value
    right = altered("stock_update", after__version=8, after__on_hand=1).value
    assert false is not None
    assert right is not None
    header = ("stockwire_replaces", b"9000")
    portion = topics.portion_of([record(STOCK, false), record(STOCK, right, header)], {})
    ((sku, changes),) = portion.changes.items()
    ((warehouse, found),) = changes.levels.items()
    assert (found.version, found.on_hand) == (8, 1)
    assert changes.replaced == Replaced({warehouse: 9_000}), "an earlier portion may have it"
    later = topics.portion_of([record(STOCK, right, header), record(STOCK, false)], {})
    assert later.changes[sku].levels[warehouse].version == 9_000
