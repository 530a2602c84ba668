"""What must hold once everything has come to rest."""

from collections.abc import Iterator, Mapping
from itertools import compress
from operator import not_
from types import MappingProxyType
from typing import NamedTuple

from tests.chaos.fault import Fault
from tests.chaos.sales import Books
from tests.chaos.witness import StepBack
from tests.chaos.world import Watched
from tests.polling import eventually

_ARRIVAL_SECONDS = 90.0
_DRIFT_SECONDS = 90.0
_ROUND_SECONDS = 10.0

#: µs that the clock of an availability channel may begin anew below what was told, after Redis has
#: lost it: it is ahead of commit time by one for each change of a SKU at the same moment.
RESTART_US = 1_000_000


class Bound(NamedTuple):
    """MB that a process may take, and how many more than after the first fault."""

    most: int
    growth: int


MEMORY = MappingProxyType(
    {
        "availability": Bound(400, 100),
        "ledger": Bound(400, 100),
        # Once 100,000 rows were told at once it takes about 310, of its reader's buffers, and no
        # more after the next 100,000: the allocator keeps them.
        "auditor": Bound(400, 300),
        "guardian": Bound(150, 50),
        "reservations": Bound(150, 50),
    }
)


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
    memory = world.memory_mb()
    facts["memory_mb"] = memory
    yield from too_much_memory(memory, world.first_memory)
    watching = {"topics": world.topics, "Redis": world.readers}
    for what, witness in watching.items():
        if not witness.alive():
            yield f"nobody watches {what} any more, so its checks say nothing"


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

    Exact repeats of what was told are no step back. A level channel may be told a row late that a
    snapshot has overtaken (`overtaken`); that the last message of each key is the newest is for the
    audit to say.

    Only where Redis has lost its data the clock of an availability channel may begin anew, a little
    below what was told (`restarted`). Readers see what Redis has kept, until it has been given
    back the rest; then no row is older than it was, and no clock by more than that little.
    """
    read = world.readers.backwards[since.read :]
    told = world.topics.backwards[since.told :]
    overtaken = world.topics.overtaken[since.overtaken :]
    facts["told_again"] = world.topics.told_again - since.again
    facts["backwards"], facts["overtaken"] = len(read) + len(told), len(overtaken)
    restarts = [fault.clocks_restart and is_restart(step) for step in told]
    restarted = list(compress(told, restarts))
    facts["restarted"] = len(restarted)
    facts["restarted_us"] = max((step.before - step.after for step in restarted), default=0)
    late = list(compress(told, map(not_, restarts)))
    late += [] if fault.snapshot else overtaken
    late += _left_behind(world) if fault.clocks_restart else read
    if late:
        yield f"{len(late)} versions went back, e.g. {', '.join(map(str, late[:3]))}"


def is_restart(step: StepBack) -> bool:
    """Whether it is a clock that began anew, as it may after a loss of Redis; never a row."""
    return step.clock and step.before - step.after <= RESTART_US


def _left_behind(world: Watched) -> list[StepBack]:
    """What Redis was not given back."""

    def behind() -> list[StepBack]:
        return [step for step in world.readers.behind() if not is_restart(step)]

    seen = world.readers.rounds
    try:
        eventually(lambda: world.readers.rounds > seen + 1 and not behind(), _ROUND_SECONDS)
    except AssertionError:
        assert world.readers.rounds > seen + 1, "nobody has looked at Redis"
    return behind()


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


def too_much_memory(memory: Mapping[str, int], first: dict[str, int]) -> Iterator[str]:
    """Who takes more than it may.

    Args:
        memory: MB, by process.
        first: what each took after the first fault; is filled in.
    """
    for process, (most, growth) in MEMORY.items():
        if process not in memory:
            yield f"{process} does not run"
            continue
        now, then = memory[process], first.setdefault(process, memory[process])
        if now > most or now > then + growth:
            yield (
                f"{process} takes {now} MB, {then} MB at first; {most} MB, and {growth} MB more "
                "than at first, are allowed"
            )
