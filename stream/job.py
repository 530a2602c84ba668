"""One channel that is told beside the live path, in one partition of the stock topic."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from inventory.groups import LEDGER, group_id
from inventory.messages import OutgoingMessage, snapshot_end
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.standing import State
from inventory.stock import StockChange
from stream.changes import decode
from stream.inbox import Record
from stream.place import Place, gaps_in
from stream.stock_reader import Reading
from stream.telling import changes_told, farewell, state_told

EndNow = Callable[[], Awaitable[int]]
"""Where the stock topic ends by now."""


@dataclass(slots=True)
class Job:
    """What is under way, and how far.

    Attributes:
        setbacks: of the place at the start.
        end: how far the walk goes, where there is one.
        position: the next offset to tell.
        balances: up to this offset a ledger is told balances, since movements are missing.
        topic: its id.
        parts: how many partitions it and the stock topic have.
        withdraw: whether its topic may hold rows that it hears of no longer.
        whole: whether it knows all up to `position`: else all rows are being walked through.
        gaps: whether compaction may have taken a record meanwhile.
    """

    place: Place
    policy: ChannelPolicy
    setbacks: int
    end: int
    position: int
    whole: bool
    withdraw: bool
    gaps: bool
    topic: str
    parts: int
    reading: Reading | None = None
    balances: int = 0
    messages: int = 0
    noted: float = 0.0

    @property
    def leaving(self) -> bool:
        """Whether the channel is gone."""
        return self.place.standing.state is State.LEAVING

    async def walk(
        self, records: Sequence[Record], end: int, end_now: EndNow
    ) -> tuple[list[OutgoingMessage], Sequence[Record]]:
        """What these records, all there are up to `end`, leave of each row; and those to come.

        While this goes on, compaction may take a record for the sake of one that lies beyond the
        end: then there is a gap, and the end is moved to where the topic ends by now.
        """
        messages: list[OutgoingMessage] = []
        while True:
            stop = min(end, self.end)
            before = [record for record in records if record.offset < stop]
            records = [record for record in records if record.offset >= stop]
            self.gaps = self.gaps or any(gaps_in(before, self.position, stop))
            changes = _changes(before)
            if self.leaving:
                messages += farewell(changes, self.policy)
            else:
                messages += state_told(changes, self.policy, snapshot=True, withdraw=self.withdraw)
            self.position = stop
            if stop < self.end:
                return messages, records
            ends = await end_now() if self.gaps else stop
            if ends <= stop:
                break
            self.end, self.gaps = ends, False
        if not self.leaving:
            messages += self._ends()
            self.whole = True
        return messages, records

    async def changes(
        self, records: Sequence[Record], end: int, end_now: EndNow
    ) -> list[OutgoingMessage]:
        """What these records, all there are up to `end`, say one by one.

        Where some are missing, a ledger cannot add them up: it is told balances instead, up to
        where the topic ends by now, which is not before anything that it has been told already.
        """
        known, gap = self.balances, next(iter(gaps_in(records, self.position, end)), None)
        self.position = max(self.position, end)
        if self.policy.kind is ChannelKind.LEVEL:
            return changes_told(_changes(records), [self.policy])
        whole = end if gap is None else gap.start
        if gap is not None:
            self.balances = max(end, await end_now())
        before = _changes(r for r in records if r.offset < known)
        single = _changes(r for r in records if known <= r.offset < whole)
        after = _changes(r for r in records if r.offset >= max(known, whole))
        return [
            *state_told(before, self.policy, snapshot=False),
            *changes_told(single, [self.policy]),
            *state_told(after, self.policy, snapshot=False),
        ]

    def _ends(self) -> list[OutgoingMessage]:
        """The end of a part of a back-fill, in every partition of the channel's topic."""
        part = self.place.partition
        return [snapshot_end(self.policy.topic, n, part, self.parts) for n in range(self.parts)]


def _changes(records: Iterable[Record]) -> list[StockChange]:
    """The live path has set aside what cannot be read."""
    return decode(records, group_id(LEDGER)).changes
