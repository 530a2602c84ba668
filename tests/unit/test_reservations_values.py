"""Requests, keys, events and attempts, without a database."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import stamina
from psycopg.errors import LockNotAvailable, SerializationFailure, UniqueViolation
from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks

from inventory.errors import InvalidEvent, Outage
from reservations import movements, trying
from reservations.basket import (
    Closed,
    Line,
    Reason,
    Refused,
    Reserve,
    Short,
    Sourcing,
    Strategy,
)
from reservations.changed import Changed
from reservations.events import (
    EVENTS,
    Adjusted,
    Expired,
    Missing,
    ReservationFailed,
    Reserved,
    Units,
    outbox_row,
    read_event,
)
from reservations.expiry import run_expiry
from reservations.idempotency import check_names, decode, digest, digest_of, encode, replayed
from reservations.service import Reservations
from reservations.strategies import TAKERS
from reservations.trying import Conflicted, Tally, keep_trying, log_no_retries

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def reserve(**given):
    asked = {"caller": "web", "key": "K", "reference": "ORD-1", "lines": (Line("A", 1),)}
    return Reserve(**{**asked, **given})


def test_a_request_is_the_same_whoever_asks_and_in_whatever_order_its_lines_stand():
    one = reserve(lines=(Line("A", 1), Line("B", 2)))
    other = reserve(lines=(Line("B", 2), Line("A", 1)), caller="app", key="L")
    assert digest_of(one) == digest_of(other)
    assert len(digest_of(one)) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"reference": "ORD-2"},
        {"lines": (Line("A", 2),)},
        {"lines": (Line("B", 1),)},
        {"hold_seconds": 60.0},
        {"sourcing": Sourcing.HIGHEST_STOCK},
        {"warehouses": ("W1", "W2")},
        {"warehouses": ("W2", "W1")},
    ],
)
def test_another_request_has_another_digest(change):
    others = [digest_of(reserve()), digest("reserve"), digest_of(reserve(warehouses=("W3",)))]
    assert digest_of(reserve(**change)) not in others


def test_the_order_of_the_warehouses_is_part_of_the_request():
    assert digest_of(reserve(warehouses=("W1", "W2"))) != digest_of(
        reserve(warehouses=("W2", "W1"))
    )


def test_an_end_of_a_hold_is_another_request_than_another_end():
    one, other = uuid4(), uuid4()
    assert (
        len(
            {digest(how, reservation=id_) for how in ("confirm", "release") for id_ in (one, other)}
        )
        == 4
    )


@pytest.mark.parametrize(
    "answer",
    [
        Refused(Reason.EXPIRED),
        Refused(Reason.INSUFFICIENT, (Short("A", 3, 2), Short("B", 1, 0))),
        Changed({("A", "W1"): 12}),
        Closed(uuid4(), {("A", "W1"): 12, ("B", "W2"): 14}),
    ],
)
def test_an_answer_is_kept_as_it_was(answer):
    import orjson

    kept = orjson.loads(encode(answer))
    assert decode(kept) == answer
    assert replayed(b"same", b"same", kept) == answer
    assert replayed(b"same", b"other", kept) == Refused(Reason.KEY_REUSED)


@pytest.mark.parametrize(
    ("names", "message"),
    [({"key": ""}, "key"), ({"caller": "x" * 201}, "caller"), ({"reference": ""}, "reference")],
)
def test_names_that_cannot_be_kept_are_refused(names, message):
    with pytest.raises(ValueError, match=f"{message} must have 1 to 200 characters"):
        check_names(**names)


@pytest.mark.parametrize(
    "make",
    [
        lambda: movements.Adjust("A", "W1", 0, "wms", "K", "D", "count"),
        lambda: movements.Adjust("A", "W1", -1_000_001, "wms", "K", "D", "count"),
        lambda: movements.Transfer("A", "W1", "W2", 0, "wms", "K", "D"),
        lambda: movements.Transfer("A", "W1", "W1", 1, "wms", "K", "D"),
        lambda: movements.Transfer("A", "W1", "W2", 1, "wms", "", "D"),
    ],
)
def test_what_is_no_movement_is_refused(make):
    with pytest.raises(ValueError, match=r"units|warehouses|characters"):
        make()


def test_the_events_have_the_names_that_were_agreed():
    assert set(EVENTS) == {
        "inventory.reserved",
        "inventory.reservation.failed",
        "inventory.confirmed",
        "inventory.released",
        "inventory.expired",
        "stock.adjusted",
        "stock.transferred",
    }
    assert {name: model.type for name, model in EVENTS.items()} == {name: name for name in EVENTS}


def test_an_event_leaves_typed_and_with_its_version():
    by = {"occurred_at": AT, "caller": "web", "reference": "ORD-1"}
    unit = Units(sku="A", warehouse="W1", quantity=1, row_version=12)
    told = [
        Reserved(**by, reservation=uuid4(), strategy=Strategy.REDIS, held_until=AT, units=(unit,)),
        ReservationFailed(
            **by,
            reservation=uuid4(),
            reason=Reason.INSUFFICIENT,
            short=(Missing(sku="A", wanted=2, available=1),),
        ),
        Expired(**by, reservation=uuid4(), units=(unit,)),
        Adjusted(
            **by, sku="A", warehouse="W1", delta=-1, on_hand=4, row_version=12, reason="count"
        ),
    ]
    for event in told:
        row = outbox_row(event)
        assert b'"version":1' in row["payload"]
        assert read_event(row["type"], row["payload"]) == event
        assert row["aggregatetype"] == ("stock" if isinstance(event, Adjusted) else "reservation")
        assert row["aggregateid"] == event.aggregate_id
    with pytest.raises(InvalidEvent, match=r"'x' is none of inventory\.confirmed"):
        read_event("x", b"{}")


def test_redis_alone_is_not_decided_by_postgres():
    assert set(TAKERS) == {Strategy.OPTIMISTIC, Strategy.PESSIMISTIC}
    with pytest.raises(ValueError, match="redis is not among optimistic, pessimistic"):
        asyncio.run(Reservations(FakePool()).reserve(reserve(), Strategy.REDIS))


class FakePool:
    """Lends one connection, which nobody uses."""

    def __init__(self):
        self.lent = 0

    @asynccontextmanager
    async def connection(self):
        self.lent += 1
        yield object()


def trying_(*outcomes, patience=5.0):
    """What `keep_trying` gives when the attempts end so; and how often it tried again."""
    left, tally, pool = list(outcomes), Tally(), FakePool()

    async def work(_):
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return asyncio.run(keep_trying(pool, work, patience, tally)), tally.retries, pool.lent


def test_what_conflicts_is_tried_again_on_the_same_connection():
    assert trying_("done") == ("done", 0, 1)
    conflicts = [SerializationFailure(), UniqueViolation(), LockNotAvailable(), Conflicted()]
    assert trying_(*conflicts, "done") == ("done", 4, 1)


def test_patience_has_an_end():
    with pytest.raises(Conflicted):
        trying_(SerializationFailure(), patience=0.05)


def test_other_errors_are_not_tried_again():
    with pytest.raises(KeyError):
        trying_(KeyError(), "done")


def test_what_is_no_duplicate_after_all_is_a_fault():
    with pytest.raises(UniqueViolation):
        trying_(UniqueViolation(), patience=0.05)


def test_only_what_is_tried_again_here_is_left_out_of_the_log():
    seen = []
    before = get_on_retry_hooks()
    try:
        set_on_retry_hooks([seen.append])
        log_no_retries()
        log_no_retries()
        trying_(Conflicted(), Conflicted(), "done")
        assert not seen
        for attempt in stamina.retry_context(on=OSError, wait_initial=0, wait_jitter=0, attempts=2):
            with attempt:
                if attempt.num == 1:
                    raise OSError
        assert len(seen) == 1
    finally:
        set_on_retry_hooks(before)


def test_pauses_stay_below_what_a_buyer_notices():
    assert trying._LONGEST_PAUSE <= 0.05


def test_expiry_goes_on_until_it_is_stopped_also_after_an_outage():
    async def main():
        stop = asyncio.Event()
        outcomes = iter([500, Outage("away"), 3, 0])
        told = []

        async def expire(limit):
            outcome = next(outcomes, None)
            if outcome is None:
                stop.set()
                return 0
            if isinstance(outcome, Outage):
                raise outcome
            return outcome

        await asyncio.wait_for(
            run_expiry(expire, stop, interval_seconds=0.001, on_expired=told.append), 30
        )
        return told

    assert asyncio.run(main()) == [500, 3]
