"""One channel in one partition of the stock topic, and which records it is told of live."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from inventory.policy import ChannelKind, ChannelPolicy
from inventory.standing import Standing, State
from stream.inbox import Record
from stream.lane import Refusal
from stream.standing import terms

COMPACTED = "compaction has taken records that it was not told"


@dataclass(slots=True, eq=False)
class Place:
    """One channel in one partition of the stock topic.

    Attributes:
        policy: of the channel; None where nobody is left to be told.
        standing: as it is kept, or is being written.
        live: whether the live path tells it, from `told` on.
        setbacks: counted up when what is under way for it comes to nothing.
        ending: the last step of its catch-up waits for acknowledgement.
    """

    name: str
    partition: int
    policy: ChannelPolicy | None
    standing: Standing
    live: bool = False
    told: int = 0
    setbacks: int = 0
    ending: bool = False

    @property
    def waiting(self) -> bool:
        """Whether there is something to be done for it beside the live path."""
        return not self.ending and self.standing.state not in (State.LIVE, State.LEFT)

    def set_back(self) -> None:
        """What was not acknowledged must be done again."""
        self.live = self.ending = False
        self.setbacks += 1

    def fall_behind(self, offset: int, reason: str) -> None:
        """It was not told from this offset on, or from an earlier one."""
        standing = self.standing
        if not self.live and standing.offset <= offset:
            return
        self.set_back()
        if standing.state is State.BEHIND:
            self.standing = standing._replace(offset=min(offset, standing.offset))
        elif standing.state is State.LIVE:
            self.standing = standing._replace(
                state=State.BEHIND, offset=offset, reason=reason, since=time.time()
            )


class Passage(NamedTuple):
    """Records of one partition, and who is told of them by the live path."""

    records: Sequence[Record]
    places: Sequence[Place]

    @property
    def policies(self) -> list[ChannelPolicy]:
        """Of those who are told."""
        return [place.policy for place in self.places if place.policy is not None]


Missed = list[tuple[Place, int]]
"""Who was not told, and the first offset of that."""


class Gap(NamedTuple):
    """Offsets without a record, up to `end`: compaction has taken what was there."""

    start: int
    end: int


def gaps_in(records: Sequence[Record], position: int, end: int) -> Iterable[Gap]:
    """The gaps from `position` up to `end`, where these are the records."""
    if records and records[0].offset >= position and end - position == len(records):
        return
    for record in records:
        if record.offset > position:
            yield Gap(position, record.offset)
        position = record.offset + 1
    if end > position:
        yield Gap(position, end)


def divide(
    records: Sequence[Record],
    position: int,
    places: Iterable[Place],
    refusals: Mapping[str, Refusal],
    missed: Missed,
) -> list[Passage]:
    """Divide records of one partition by who is told of them live.

    Args:
        records: in their order, at least one.
        position: where the live path was before them.
        places: of all channels in this partition.
        refusals: the topics that take no messages.
        missed: who cannot be told falls behind, and is added here.
    """
    gaps = list(gaps_in(records, position, records[-1].offset + 1))
    spans: list[tuple[Place, int, int]] = []
    for place in places:
        policy = place.policy
        if not place.live or policy is None or place.told > records[-1].offset:
            continue
        first = _index(records, place.told)
        refusal = refusals.get(policy.topic)
        lost = [gap for gap in gaps if gap.end > place.told]
        if refusal is not None:
            untold = max(place.told, min(position, records[first].offset))
            place.fall_behind(untold, refusal.reason)
            missed.append((place, untold))
        elif lost and policy.kind is ChannelKind.MOVEMENT:
            untold = max(place.told, lost[0].start)
            spans.append((place, first, _index(records, untold)))
            place.fall_behind(untold, COMPACTED)
            missed.append((place, untold))
        else:
            spans.append((place, first, len(records)))
    cuts = sorted({0, len(records), *(cut for _, *span in spans for cut in span)})
    return [
        Passage(records[begin:end], [p for p, first, last in spans if first <= begin < end <= last])
        for begin, end in pairwise(cuts)
    ]


def _index(records: Sequence[Record], offset: int) -> int:
    """Of the first record at this offset or after it."""
    if not records or records[0].offset >= offset:
        return 0
    return next((n for n, record in enumerate(records) if record.offset >= offset), len(records))


def kept_place(name: str, partition: int, standing: Standing) -> Place:
    """A place as it was kept."""
    live = standing.state is State.LIVE
    return Place(name, partition, None, standing, live, standing.offset)


def joining(policy: ChannelPolicy) -> Standing:
    """How a channel stands that is to be told everything."""
    return Standing(State.JOINING, 0, terms(policy), since=time.time())
