"""Which messages reach a handler, and which offsets may be committed."""

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from stockwire_client import LEVEL, MOVEMENT, Change, InvalidMessage, Refused, Unavailable
from stockwire_client.intake import Signal
from tests.client_fakes import (
    FakeBroker,
    availability,
    drain,
    intake_of,
    movement,
    steps,
    told,
    versions,
)
from tests.unit.test_client_messages import level


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
