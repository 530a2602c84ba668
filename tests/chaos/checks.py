"""What must hold once everything has come to rest."""

from collections.abc import Iterator

from tests.chaos.fault import Fault
from tests.chaos.sales import Books
from tests.chaos.world import Watched
from tests.polling import eventually

_ARRIVAL_SECONDS = 90.0
_DRIFT_SECONDS = 90.0

#: A worker takes so many MB at most, and so many more than after the first fault.
_LIMIT_MB = 400
_GROWTH_MB = 100


def broken_invariants(
    world: Watched, fault: Fault, books: Books, since: "Since", facts: dict[str, object]
) -> Iterator[str]:
    """Check all; yields what does not hold, and fills in `facts` for the table."""
    yield from _equal(world, facts)
    yield from _events(world, books, facts)
    yield from _order(world, fault, since, facts)
    if twice := world.topics.twice[since.twice :]:
        yield f"a ledger was told of {len(twice)} changes under two ids, e.g. {twice[:3]}"
    letters = world.topics.dead_letters[since.letters :]
    facts["dead_letters"] = len(letters)
    if letters and not fault.dead_letters:
        yield f"{len(letters)} dead letters, e.g. {letters[:3]}"
    if fault.dead_letters and not letters:
        yield "no dead letters, though this fault makes some"
    if not world.connector_runs():
        yield "the connector does not run"
    yield from _memory(world, facts)


class Since:
    """Where the witnesses stood before the fault."""

    def __init__(self, world: Watched) -> None:
        self.told = len(world.topics.backwards)
        self.overtaken = len(world.topics.overtaken)
        self.twice = len(world.topics.twice)
        self.again = world.topics.told_again
        self.read = len(world.readers.backwards)
        self.letters = len(world.topics.dead_letters)


def _equal(world: Watched, facts: dict[str, object]) -> Iterator[str]:
    """Redis and every channel's topic say what Postgres says; ledgers add up to it."""
    report = world.auditor.audit_until_settled(_DRIFT_SECONDS)
    facts["rows"], facts["drift"] = report.rows, report.drift
    if not report.rows:
        yield "there are no rows, so nothing was compared"
    if report.drift:
        places = {place.place: place.drift for place in report.places if place.drift}
        yield f"{report.verdict}: {places}, e.g. {report.examples()[:3]}"


def _order(world: Watched, fault: Fault, since: "Since", facts: dict[str, object]) -> Iterator[str]:
    """No version goes back for a reader of Redis or of an availability channel.

    Exact repeats of what was told are no step back. Only where Redis has lost its data a clock may
    begin anew, from commit time; those are counted as `restarted`. A level channel may also be told
    a row late that a snapshot has overtaken (`overtaken`); that the last message of each key is the
    newest is for the audit to say.
    """
    read = world.readers.backwards[since.read :]
    told = world.topics.backwards[since.told :]
    overtaken = world.topics.overtaken[since.overtaken :]
    facts["told_again"] = world.topics.told_again - since.again
    facts["backwards"], facts["overtaken"] = len(read) + len(told), len(overtaken)
    facts["restarted"] = facts["backwards"] if fault.clocks_restart else 0
    back = [] if fault.clocks_restart else read + told
    if late := back + ([] if fault.snapshot else overtaken):
        yield f"{len(late)} versions went back, e.g. {late[:3]}"


def _events(world: Watched, books: Books, facts: dict[str, object]) -> Iterator[str]:
    """Every event that was committed arrived, and none that was not."""
    arrived = world.topics.events

    def missing() -> set[str]:
        return books.events - arrived.keys()

    try:
        eventually(lambda: not missing(), timeout=_ARRIVAL_SECONDS, interval=0.1)
    except AssertionError:
        yield f"{len(missing())} of {len(books.events)} outbox events did not arrive"
    facts["events"] = len(books.events)
    facts["repeated"] = sum(arrived[event] > 1 for event in books.events)
    if invented := [event for event in books.never if arrived[event]]:
        yield f"{len(invented)} outbox events arrived that were never committed"


def _memory(world: Watched, facts: dict[str, object]) -> Iterator[str]:
    memory = world.memory_mb()
    facts["memory_mb"] = memory
    for worker in ("availability", "ledger"):
        now, first = memory.get(worker, 0), world.first_memory.setdefault(worker, memory[worker])
        if now > _LIMIT_MB or now > first + _GROWTH_MB:
            yield f"{worker} takes {now} MB, {first} MB at first; {_LIMIT_MB} are allowed"
