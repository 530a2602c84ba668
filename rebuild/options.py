"""What is asked of a rebuild, what it shows, and what comes of it."""

from dataclasses import dataclass, field

from rebuild.crew import From
from rebuild.progress import Counts


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for.

    Attributes:
        restart: forget an earlier run that did not come to its end.
        keep: leave the old key space in the shadow's database after the switch.
        processes: how many read and write at once.
    """

    source: From = From.KAFKA
    shadow: bool = False
    restart: bool = False
    keep: bool = False
    processes: int = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a rebuild is, to be shown: records; `whole` is None where that is not known."""

    name: str
    done: int
    whole: int | None


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        counts: over all runs, if it was interrupted.
        wrong: SKUs whose channels had been told something else, or nothing.
        told: the channels that are being told of every SKU for that.
        seconds: of each stage of this run.
        switched: whether readers were switched to another key space.
    """

    source: From
    shadow: bool
    resumed: bool = False
    counts: Counts = field(default_factory=Counts)
    wrong: int = 0
    told: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    switched: bool = False
