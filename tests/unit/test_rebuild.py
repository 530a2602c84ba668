"""The parts of a rebuild that need no server: its bounds, and what it says of itself."""

import multiprocessing
import socket
import time

import pytest

from inventory.topics import CHANNEL_SKU, STOCK
from rebuild import crew, rows, topics
from rebuild.crew import Crew, From, Job, Task
from rebuild.progress import Standing
from rebuild.session import Session
from rebuild.topics import Following, part_of

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
