"""What a fault is, and what is kept of its run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.world import World


class NoProof(AssertionError):  # noqa: N818 - a finding, not an error
    """There is no evidence that the fault has happened, so its check would say nothing."""


@dataclass(slots=True)
class Timeline:
    """When a fault was injected and healed, on the clock of `time.monotonic`.

    Attributes:
        proof: what shows that it has happened.
    """

    injected: float = 0.0
    healed: float = 0.0
    proof: list[str] = field(default_factory=list)

    def inject(self) -> None:
        """From now on it is broken."""
        self.injected = time.monotonic()

    def heal(self) -> None:
        """From now on nothing stands in the way any more."""
        self.healed = time.monotonic()

    def prove(self, holds: object, text: str) -> None:
        """Note a piece of evidence.

        Raises:
            NoProof: it does not hold.
        """
        if not holds:
            raise NoProof(f"no evidence that {text}")
        self.proof.append(text)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break the stack.

    Attributes:
        run: breaks it, proves that, and heals it (or waits until it has healed itself).
        short: part of `make test`.
        healed_by: what mends it; a person only where that says so.
        dead_letters: whether it makes some; otherwise there must be none.
        snapshot: whether rows are read anew and overtake the stream: what it still holds of them
            comes late to level channels then, whose consumers drop it by its version.
        clocks_restart: whether Redis loses the clocks of availability channels, which begin anew
            from commit time: at most a second below what was told.
        patience: seconds within which it must be fresh again after it was healed.
        then: proves what must still work once it is fresh again.
        tidy: takes away what the fault has put there, once all was checked.
        needs: why it cannot run here; None if it can.
    """

    name: str
    what: str
    run: "Callable[[World, Timeline], None]"
    short: bool = False
    healed_by: str = "itself"
    dead_letters: bool = False
    snapshot: bool = False
    clocks_restart: bool = False
    patience: float = 60.0
    then: "Callable[[World, Timeline], None] | None" = None
    tidy: "Callable[[World], None] | None" = None
    needs: Callable[[], str | None] = lambda: None
