"""When a subscriber has the whole state."""

import time

import pytest

from stockwire_client import (
    Change,
    InvalidMessage,
)
from stockwire_client.intake import Signal
from stockwire_client.progress import Progress
from tests.client_fakes import (
    FakeBroker,
    availability,
    drain,
    intake_of,
    told,
    typed,
    versions,
)


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
    inside = ["1", "{}", '{"ends": "zz", "parts": []}', '{"complete": 1}']
    ours = [f'{{"stockwire_snapshot": {one}}}' for one in inside]
    for metadata in ["", "x", "[]", "1", *ours]:
        assert not Progress(metadata).complete
    whole = Progress(complete=True)
    assert Progress(whole.metadata).complete


def test_metadata_is_within_what_kafka_takes():
    progress = Progress()
    for part in range(1023):
        progress.part_ended(part, 1024, 1795241964255)
    assert len(progress.metadata) < 4096
    again = Progress(progress.metadata)
    again.part_ended(1023, 1024, 1795241964256)
    assert again.complete
