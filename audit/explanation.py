"""What an explanation of a number holds. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from audit.agreement import IN_FLIGHT_US, Agreement, Says
from audit.facts import CommittedRow, SkuFacts
from inventory.availability import Availability
from inventory.policy import ChannelOverride, ChannelPolicy


class Answer(StrEnum):
    """What kind of answer an explanation is."""

    SOLD = "sold"
    """The channel lists the SKU; what is available may be nothing."""
    NOT_LISTED = "not listed"
    """The SKU has no row in any of the channel's warehouses."""
    SKU_BLOCKED = "sku blocked"
    CHANNEL_BLOCKED = "channel blocked"


class WarehouseLine(NamedTuple):
    """One of the channel's warehouses; `row` is None where the SKU has none.

    `held` is what is ring-fenced there, by channel.
    """

    warehouse: str
    row: CommittedRow | None
    held: Mapping[str, int]


class Step(NamedTuple):
    """One step of the waterfall, in units.

    Attributes:
        delta: what it adds or takes away.
        left: what there is after it.
        source: which rule says so.
    """

    name: str
    delta: int
    left: int
    source: str = ""


class LastChange(NamedTuple):
    """What last changed the number, or may have: a row, the policy, or an override.

    Attributes:
        what: e.g. `stock in WH-1`, `policy of web`.
        at_us: in µs since the epoch.
    """

    what: str
    version: int
    at_us: int
    reason: str | None = None
    reference: str | None = None
    caused_by: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Why a channel may promise what it promises of a SKU, by Postgres alone.

    Attributes:
        warehouses: those of the channel, in its order of priority.
        elsewhere: other warehouses that have the SKU.
        steps: from on hand to available; empty where the SKU is not listed.
        promised: None where the SKU is not listed.
        why_status: a sentence.
        last_change: None where nothing of it is known any more.
    """

    facts: SkuFacts
    policy: ChannelPolicy
    override: ChannelOverride | None
    answer: Answer
    warehouses: tuple[WarehouseLine, ...]
    elsewhere: tuple[str, ...]
    steps: tuple[Step, ...]
    promised: Availability | None
    why_status: str
    last_change: LastChange | None

    @property
    def fresh(self) -> bool:
        """Whether the last change is so new that its effects may be on their way."""
        return is_fresh(self.last_change, self.facts.now_us)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A number, and whether the places agree on it right now.

    Attributes:
        redis: what storefronts read.
        topic: what subscribers were told last.
    """

    account: Account
    redis: Says
    topic: Says

    @property
    def agreement(self) -> Agreement:
        """The worse of what Redis and the topic say."""
        return worst(self.redis.agreement, self.topic.agreement)


class RowSays(NamedTuple):
    """A row of a SKU, and what a channel was told of it last.

    Attributes:
        row: None where Postgres has none (any more).
        told: by the topic.
    """

    warehouse: str
    row: CommittedRow | None
    told: Says


@dataclass(frozen=True, slots=True)
class RowsExplanation:
    """What a channel of kind `level` or `movement` was told of each row of a SKU.

    Attributes:
        rows: in the channel's order of priority.
        elsewhere: other warehouses that have the SKU.
    """

    facts: SkuFacts
    policy: ChannelPolicy
    rows: tuple[RowSays, ...]
    elsewhere: tuple[str, ...]
    last_change: LastChange | None

    @property
    def agreement(self) -> Agreement:
        """The worst of all rows."""
        return worst(*(row.told.agreement for row in self.rows))


def is_fresh(last: LastChange | None, now_us: int) -> bool:
    """Whether a change is so new that its effects may be on their way."""
    return last is not None and now_us - last.at_us < IN_FLIGHT_US


_FROM_GOOD_TO_BAD = (
    Agreement.AGREES,
    Agreement.IN_FLIGHT,
    Agreement.UNKNOWN,
    Agreement.DIFFERS,
)


def worst(*agreements: Agreement) -> Agreement:
    """The worst of them; without any, all agree."""
    return max(agreements, key=_FROM_GOOD_TO_BAD.index, default=Agreement.AGREES)
