"""Which messages reach a handler, and which offsets may be committed."""

import time

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from stockwire_client import (
    AVAILABILITY,
    LEVEL,
    MOVEMENT,
    Change,
    InvalidMessage,
    Refused,
    Unavailable,
)
from stockwire_client.intake import Intake, Signal
from tests.client_fakes import TOPIC, FakeBroker, availability, movement, typed
from tests.unit.test_client_messages import level


def intake_of(broker, kind=AVAILABILITY, *, start="snapshot", echoes=False, remember=1000):
    consumer = broker.open()
    intake = Intake(consumer, TOPIC, kind, start=start, echoes=echoes, remember=remember)
    intake.subscribe()
    return consumer, intake


def steps(intake, limit=1):
    """What `next` gives, until the log is at its end."""
    idle = 0
    while idle < 3:
        item = intake.next()
        if item is None:
            intake.fetch(0, limit)
            idle = 0 if intake._pending else idle + 1
        else:
            idle = 0
            yield item


def drain(intake, limit=1):
    """Handle everything; what was given, in order."""
    given = []
    for item in steps(intake, limit):
        given.append(item)
        intake.done(item)
    return given


def versions(items):
    return [item.version for item in items if isinstance(item, Change)]


def told(items):
    return [item for item in items if not isinstance(item, Signal)]


def test_stale_and_repeated_states_are_dropped():
    broker = FakeBroker()
    for version in [1, 3, 2, 3, 4]:
        broker.append(value=availability(version=version))
    _, intake = intake_of(broker)
    assert versions(drain(intake)) == [1, 3, 4]


def test_a_tombstone_is_a_state_too():
    broker = FakeBroker()
    broker.append(value=availability(version=3))
    broker.append(value=None, headers=[("ce_id", b"A|2")])
    broker.append(value=None, headers=[("ce_id", b"A|4")])
    broker.append(value=availability(version=3))
    _, intake = intake_of(broker)
    assert [(item.version, item.value is None) for item in told(drain(intake))] == [
        (3, False),
        (4, True),
    ]


def test_a_repeated_movement_is_dropped_a_late_one_is_not():
    broker = FakeBroker()
    for version in [4, 2, 4, 6, 2]:
        broker.append(value=movement(version=version))
    _, intake = intake_of(broker, MOVEMENT)
    assert versions(drain(intake)) == [4, 2, 6]


def test_a_balance_is_told_beside_the_movement_that_it_includes():
    broker = FakeBroker()
    for kind in ["movement", "balance", "balance", "movement"]:
        broker.append(value=movement(version=4, kind=kind))
    _, intake = intake_of(broker, MOVEMENT)
    assert [item.value["kind"] for item in told(drain(intake))] == ["movement", "balance"]


def test_echoes_are_left_out_unless_asked_for():
    broker = FakeBroker()
    broker.append(key=b"A|W1", value=level(version=2), headers=[("stockwire_echo", b"true")])
    broker.append(key=b"A|W1", value=level(version=1))
    _, intake = intake_of(broker, LEVEL)
    assert versions(drain(intake)) == []  # the echo is known, so what is older is stale
    _, intake = intake_of(broker, LEVEL, echoes=True)
    assert versions(drain(intake)) == [2]


def test_what_is_remembered_is_bounded():
    broker = FakeBroker()
    for sku in ["A", "B", "A", "C", "B", "A"]:
        broker.append(key=sku.encode(), value=availability(sku, version=1))
    _, intake = intake_of(broker, remember=2)
    # A is repeated at once and known; when it comes back, two others have been seen since.
    assert [item.sku for item in told(drain(intake))] == ["A", "B", "C", "A"]
    (state,) = intake._partitions.values()
    assert len(state.seen) == 2


def test_what_is_forgotten_is_what_has_not_changed_for_longest():
    broker = FakeBroker()
    for sku, version in [("A", 1), ("B", 1), ("A", 2), ("C", 1), ("A", 1)]:
        broker.append(key=sku.encode(), value=availability(sku, version))
    _, intake = intake_of(broker, remember=2)
    assert versions(drain(intake)) == [1, 1, 2, 1]


def test_an_offset_is_stored_only_after_its_message_is_done():
    broker = FakeBroker()
    for version in [1, 2]:
        broker.append(value=availability(version=version))
    consumer, intake = intake_of(broker)
    intake.fetch(0)
    assert versions([intake.next()]) == [1]
    assert intake.next() is not None  # the same again
    consumer.commit_stored()
    assert broker.offset() is None
    intake.done(intake.next())
    consumer.commit_stored()
    assert broker.offset() == 1


def test_what_is_passed_over_is_committed_too():
    broker = FakeBroker()
    broker.append(value=availability(version=1))
    broker.append(value=availability(version=1))
    broker.append(value=b"poison")
    consumer, intake = intake_of(broker)
    items = told(drain(intake))
    assert [type(item) for item in items] == [Change, InvalidMessage]
    consumer.commit_stored()
    assert broker.offset() == 3


def test_a_partition_that_is_revoked_takes_its_fetched_messages_along():
    broker = FakeBroker(2)
    for n in (0, 1):
        for version in (1, 2, 3):
            broker.append(n, f"{n}".encode(), availability(f"{n}", version))
    consumer, intake = intake_of(broker)
    intake.fetch(0)
    intake.done(intake.next())
    consumer.rebalance({1}, after=2)  # while the next records are fetched
    intake.fetch(0, limit=4)
    assert {item.partition for item in intake._pending} == {1}
    drain(intake)
    assert broker.offset(0) == 1
    consumer.rebalance({0, 1})
    assert versions(drain(intake)) == [2, 3]


def test_from_now():
    broker = FakeBroker(2)
    broker.append(0, value=availability(version=1))
    _, intake = intake_of(broker, start="now")
    assert told(drain(intake)) == []
    assert (broker.offset(0), broker.offset(1)) == (1, 0)  # "now" stays the same after a crash
    broker.append(0, value=availability(version=2))
    broker.append(1, b"B", value=availability("B", version=2))
    assert versions(drain(intake)) == [2, 2]


def test_a_group_goes_on_where_it_was_whatever_start_says():
    broker = FakeBroker()
    broker.append(value=availability(version=1))
    consumer, intake = intake_of(broker)
    drain(intake)
    consumer.close()
    broker.append(value=availability(version=2))
    for start in ("now", "snapshot"):
        _, intake = intake_of(broker, start=start)
        assert versions(drain(intake)) == [2]


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    ],
)
def test_a_refusal_ends_the_subscription(code):
    broker = FakeBroker()
    consumer, intake = intake_of(broker)
    consumer.errors.append(KafkaError(code))
    with pytest.raises(Refused, match=r"Kafka does not let stock\.web\.v1 be read"):
        intake.fetch(0)


def test_a_passing_fault_is_logged_and_passed(caplog):
    broker = FakeBroker()
    broker.append(value=availability(version=1))
    consumer, intake = intake_of(broker)
    consumer.errors.append(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert versions(drain(intake)) == [1]
    assert "_ALL_BROKERS_DOWN" in caplog.text


def test_kafka_that_does_not_say_where_to_begin_is_unavailable(monkeypatch):
    broker = FakeBroker()
    consumer, intake = intake_of(broker)

    def no_answer(*_, **__):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr(consumer, "committed", no_answer)
    with pytest.raises(Unavailable, match="where to begin"):
        intake.fetch(0)


# --- the end of a snapshot


def ends(broker, partition, part, parts, at):
    headers = [
        ("stockwire_snapshot", b"last"),
        ("stockwire_snapshot_part", f"{part}/{parts}".encode()),
    ]
    broker.append(partition, f":snapshot/{part}".encode(), None, headers, at)


def test_a_snapshot_is_complete_when_every_partition_has_shown_every_end():
    now = int(time.time() * 1000)
    broker = FakeBroker(2)
    flagged = [*typed(), ("stockwire_snapshot", b"true")]
    for n in (0, 1):
        broker.append(n, b"%d" % n, availability(str(n), 1), flagged, now)
        ends(broker, n, 1, 2, now)
    consumer, intake = intake_of(broker)
    items = drain(intake)
    assert Signal.SNAPSHOT_COMPLETE not in items
    assert [item.snapshot for item in told(items)] == [True, True]
    ends(broker, 0, 0, 2, now)
    assert drain(intake) == []
    ends(broker, 1, 0, 2, now)
    assert not intake.snapshot_complete
    broker.append(1, b"1", availability("1", 2), typed(), now)
    after = drain(intake)
    assert after[0] is Signal.SNAPSHOT_COMPLETE  # before the delta that follows it
    assert versions(after) == [2]
    assert intake.snapshot_complete
    consumer.commit_stored()
    assert broker.offset(0) == 3  # ends are committed as any message


def test_who_goes_on_in_the_middle_of_a_snapshot_knows_which_parts_have_ended():
    now = int(time.time() * 1000)
    broker = FakeBroker()
    ends(broker, 0, 0, 2, now)
    consumer, intake = intake_of(broker)
    drain(intake)
    consumer.close()
    ends(broker, 0, 1, 2, now)
    _, again = intake_of(broker)
    assert drain(again) == [Signal.SNAPSHOT_COMPLETE]
    _, third = intake_of(broker)
    assert not third.snapshot_complete


def test_without_a_back_fill_the_state_is_whole_at_the_end_of_the_partition():
    broker = FakeBroker()
    broker.append(value=availability(version=1))
    _, intake = intake_of(broker)
    items = drain(intake)
    assert isinstance(items[0], Change)
    assert items[1:] == [Signal.SNAPSHOT_COMPLETE]


def test_a_back_fill_of_long_ago_may_have_lost_its_ends_to_compaction():
    flagged = [("stockwire_snapshot", b"true")]
    long_ago = int(time.time() * 1000) - 25 * 60 * 60 * 1000
    broker = FakeBroker()
    broker.append(value=availability(version=1), headers=flagged, timestamp=long_ago)
    _, intake = intake_of(broker)
    assert Signal.SNAPSHOT_COMPLETE in drain(intake)


def test_from_now_there_is_no_snapshot_to_wait_for():
    _, intake = intake_of(FakeBroker(), start="now")
    assert drain(intake) == [Signal.SNAPSHOT_COMPLETE]


def test_who_has_no_partition_yet_has_no_whole_snapshot():
    """A member that joins is given its partitions after the others have given them up."""
    broker = FakeBroker()
    broker.append(value=availability(version=1))
    consumer, intake = intake_of(broker)
    consumer.rebalance([])
    assert drain(intake) == []
    assert not intake.snapshot_complete
    consumer.rebalance([0])
    assert drain(intake)[-1] is Signal.SNAPSHOT_COMPLETE


@pytest.mark.parametrize("part", [b"", b"x", b"1/1", b"0/0", b"-1/2", b"0/1025", None])
def test_a_malformed_end_is_poison(part):
    broker = FakeBroker()
    headers = [("stockwire_snapshot", b"last")]
    if part is not None:
        headers.append(("stockwire_snapshot_part", part))
    broker.append(key=b":snapshot/0", value=None, headers=headers)
    _, intake = intake_of(broker)
    (item,) = told(drain(intake))
    assert isinstance(item, InvalidMessage)
    assert "not <part>/<parts>" in str(item)


def test_metadata_of_somebody_else_is_ignored():
    from stockwire_client.progress import Progress

    inside = ["1", "{}", '{"ends": "zz", "parts": []}', '{"complete": 1}']
    ours = [f'{{"stockwire_snapshot": {one}}}' for one in inside]
    for metadata in ["", "x", "[]", "1", *ours]:
        assert not Progress(metadata).complete
    whole = Progress(complete=True)
    assert Progress(whole.metadata).complete


def test_metadata_is_within_what_kafka_takes():
    from stockwire_client.progress import Progress

    progress = Progress()
    for part in range(1023):
        progress.part_ended(part, 1024, 1795241964255)
    assert len(progress.metadata) < 4096
    again = Progress(progress.metadata)
    again.part_ended(1023, 1024, 1795241964256)
    assert again.complete


# --- properties


@given(
    log=st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 9), st.booleans()), max_size=40),
    limit=st.integers(1, 10),
)
def test_of_each_key_versions_only_rise_and_the_highest_arrives(log, limit):
    broker = FakeBroker()
    for sku, version, gone in log:
        headers = [("ce_id", f"{sku}|{version}".encode())]
        value = None if gone else availability(sku, version)
        broker.append(key=sku.encode(), value=value, headers=headers)
    _, intake = intake_of(broker)
    given = told(drain(intake, limit))
    for key in {sku for sku, _, _ in log}:
        rising = [item.version for item in given if item.key == key]
        assert rising == sorted(set(rising))
        assert rising[-1] == max(version for sku, version, _ in log if sku == key)


@given(
    log=st.lists(st.sampled_from(["fresh", "stale", "poison"]), max_size=30),
    crashes=st.lists(st.integers(0, 30), max_size=5),
    limit=st.integers(1, 10),
)
def test_what_is_committed_was_handled_whenever_a_member_dies(log, crashes, limit):
    """Every message is handled at least once, and no offset is committed before it was."""
    broker = FakeBroker()
    fresh = set()
    for offset, what in enumerate(log):
        if what == "poison":
            broker.append(value=b"{")
        else:
            version = offset + 1 if what == "fresh" else 0
            sku = "A" if what == "fresh" else "B"
            broker.append(key=sku.encode(), value=availability(sku, version))
        if what != "stale":
            fresh.add(offset)
    handled = set()

    def handle_until(intake, deaths_at):
        """Handle messages, and die while handling the one after `deaths_at` of them."""
        for done, item in enumerate(steps(intake, limit)):
            if done == deaths_at:
                return False
            if not isinstance(item, Signal):
                handled.add(item.offset)
            intake.done(item)
            intake._consumer.commit_stored()  # as early as it can happen
            committed = broker.offset() or 0
            assert {o for o in fresh if o < committed} <= handled
        return True

    for at in [*crashes, 10_000]:
        _, intake = intake_of(broker)
        finished = handle_until(intake, at)
    assert finished
    assert fresh <= handled
    assert (broker.offset() or 0) == len(log)
