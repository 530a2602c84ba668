"""`checkout.requested`: what a shop asks for, as it comes in on the commands topic."""

from typing import Annotated, Literal, Self
from uuid import UUID, uuid5

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from inventory.errors import InvalidEvent
from reservations.basket import (
    HOLD_SECONDS,
    LONGEST_HOLD_SECONDS,
    MOST_CHARACTERS,
    MOST_LINES,
    MOST_UNITS,
    Line,
    Sourcing,
    Strategy,
)
from reservations.strategies import TAKERS

#: Shorter holds run out before everything is done.
SHORTEST_HOLD_SECONDS = 60.0

#: What ids of sagas are derived in.
_NAMESPACE = UUID("6f3d0f2e-6a4c-5d55-9c55-0d3a6f9d2b61")

#: Postgres stores no NUL in a text.
_Text = Annotated[
    str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS, pattern=r"^[^\x00]*$")
]


class RequestedLine(BaseModel):
    """So many units of a SKU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sku: _Text
    quantity: int = Field(strict=True, ge=1, le=MOST_UNITS)


class CheckoutRequested(BaseModel):
    """A basket to be held, paid for, sent and sold.

    Attributes:
        id: the command's own; the same command may come again, and is done once.
        caller: who asks, such as `web`.
        reference: the order's number.
        amount_minor: the price of all of it, in the currency's smallest unit.
        payment_method: what the payment service knows the buyer's means by.
        ship_to: the address as the shipping service takes it.
        hold_seconds: how long the units are held; in that time all must be done.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    type: Literal["checkout.requested"] = "checkout.requested"
    id: UUID
    caller: _Text
    reference: _Text
    lines: tuple[RequestedLine, ...] = Field(min_length=1, max_length=MOST_LINES)
    amount_minor: int = Field(strict=True, ge=1, le=10**15)
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    payment_method: _Text
    ship_to: Annotated[
        str, StringConstraints(min_length=1, max_length=2_000, pattern=r"^[^\x00]*$")
    ]
    hold_seconds: float = Field(
        HOLD_SECONDS, ge=SHORTEST_HOLD_SECONDS, le=LONGEST_HOLD_SECONDS, allow_inf_nan=False
    )
    sourcing: Sourcing = Sourcing.PRIORITY
    strategy: Strategy = Strategy.OPTIMISTIC

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if len({line.sku for line in self.lines}) < len(self.lines):
            raise ValueError("each SKU may stand in one line only")
        if self.strategy not in TAKERS:
            # What a flash sale grants has an id of the sale's own, and not the saga's.
            raise ValueError(f"strategy {self.strategy.value} is none for a checkout")
        return self

    @property
    def saga(self) -> UUID:
        """The id of the saga that this command begins: the same however often it comes."""
        return uuid5(_NAMESPACE, f"{self.id}:{self.caller}")

    def basket(self) -> tuple[Line, ...]:
        """The lines as they are reserved."""
        return tuple(Line(line.sku, line.quantity) for line in self.lines)


def read_command(value: bytes) -> CheckoutRequested:
    """A command as it came on the topic.

    Raises:
        InvalidEvent: it can never be done, so it belongs in the dead-letter topic.
    """
    try:
        return CheckoutRequested.model_validate_json(value)
    except ValidationError as exc:
        faults = "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
            for error in exc.errors(include_url=False, include_input=False, include_context=False)
        )
        raise InvalidEvent(f"checkout.requested: {faults}") from exc
