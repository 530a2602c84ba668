"""What a rush came to, strategy by strategy, to read and to compare."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from simulate.buyers import Rush, Visit


@dataclass(frozen=True, slots=True)
class Left:
    """The row of stock after a rush, as Postgres has it."""

    on_hand: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Result:
    """One strategy in one rush.

    Attributes:
        strategy: its name.
        requests: how often buyers asked: once each, and again after a conflict.
        granted: buyers who were told that they have a unit.
        refused: the others, by reason in `reasons`.
        oversold: units that were promised and not there; by what buyers were told or by what
            Postgres holds, whichever is worse.
        reserved: units that are reserved in Postgres in the end.
        unsold: units that nobody got although somebody was refused.
        retries: attempts made again because others had been quicker: inside the strategy, and by
            buyers who asked again.
        p50_ms, p99_ms: from a buyer's arrival to the answer, waiting for a connection included.
        requests_per_second: requests answered, from the first arrival to the last answer.
        fairness: see `fairness`.
    """

    strategy: str
    requests: int
    granted: int
    refused: int
    oversold: int
    reserved: int
    unsold: int
    retries: int
    p50_ms: float
    p99_ms: float
    seconds: float
    requests_per_second: float
    fairness: float | None
    reasons: Mapping[str, int]


def summarise(
    strategy: str, rush: Rush, visits: Sequence[Visit], left: Left, retries: int
) -> Result:
    """What the visits of one rush come to; there is one at least, in the order of arrival."""
    granted = sum(visit.told.granted for visit in visits)
    requests = sum(visit.told.asked for visit in visits)
    waited = sorted(visit.answered - visit.arrived for visit in visits)
    seconds = max(visit.answered for visit in visits) - visits[0].arrived
    reasons = Counter(visit.told.reason.value for visit in visits if visit.told.reason)
    # A lost update leaves fewer units reserved than were promised, a bare addition more than exist.
    promised = max(granted, left.reserved)
    return Result(
        strategy,
        requests,
        granted,
        len(visits) - granted,
        max(0, promised - rush.units),
        left.reserved,
        max(0, min(rush.units, len(visits)) - granted),
        retries + requests - len(visits),
        round(1000 * _percentile(waited, 0.50), 1),
        round(1000 * _percentile(waited, 0.99), 1),
        round(seconds, 3),
        round(requests / seconds, 1) if seconds else 0.0,
        fairness([visit.told.granted for visit in visits]),
        dict(sorted(reasons.items())),
    )


def fairness(granted: Sequence[bool]) -> float | None:
    """How much it counts to be early, of buyers in the order of their arrival.

    The probability that of any two buyers, of whom one was granted and one refused, the granted
    one was first: 1 is first come, first served, 0.5 a lottery, 0 last come, first served (the
    area under the ROC curve, or Mann-Whitney's U as a part of all pairs). None when all were
    granted or all were refused.
    """
    earlier = pairs = 0
    for was_granted in granted:
        if was_granted:
            earlier += 1
        else:
            pairs += earlier
    refused = len(granted) - earlier
    return round(pairs / (earlier * refused), 3) if earlier and refused else None


def _percentile(ascending: Sequence[float], part: float) -> float:
    return ascending[max(0, ceil(part * len(ascending)) - 1)]


#: Column and how a result is shown in it.
_COLUMNS = (
    "strategy",
    "requests",
    "granted",
    "refused",
    "oversold",
    "unsold",
    "retries",
    "p50 ms",
    "p99 ms",
    "requests/s",
    "fairness",
)


def cells(result: Result) -> tuple[str, ...]:
    """A result as the columns show it."""
    return (
        result.strategy,
        *(
            f"{number:,}"
            for number in (
                result.requests,
                result.granted,
                result.refused,
                result.oversold,
                result.unsold,
                result.retries,
            )
        ),
        f"{result.p50_ms:,.0f}",
        f"{result.p99_ms:,.0f}",
        f"{result.requests_per_second:,.0f}",
        "-" if result.fairness is None else f"{result.fairness:.2f}",
    )


def text(results: Sequence[Result]) -> str:
    """All of them side by side, to read as they are."""
    rows = [_COLUMNS, *map(cells, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def markdown(results: Sequence[Result]) -> str:
    """The same as a table in Markdown, as `docs/reservations.md` has it."""
    head = [f"| {' | '.join(_COLUMNS)} |", "|---|" + "---:|" * (len(_COLUMNS) - 1)]
    return "\n".join([*head, *(f"| {' | '.join(cells(result))} |" for result in results)])


def as_dict(rush: Rush, pool_size: int, results: Sequence[Result]) -> dict[str, Any]:
    """A run as JSON shows it."""
    return {
        **asdict(rush),
        "pool_size": pool_size,
        "results": [asdict(result) for result in results],
    }
