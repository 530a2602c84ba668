"""Ways to take units from stock: a plain table, nothing registers itself."""

from collections.abc import Mapping
from types import MappingProxyType

from reservations.basket import Strategy
from reservations.strategies.optimistic import take_optimistically
from reservations.strategies.pessimistic import take_pessimistically
from reservations.strategies.taker import Taker

#: What Postgres alone decides.
TAKERS: Mapping[Strategy, Taker] = MappingProxyType(
    {
        Strategy.OPTIMISTIC: take_optimistically,
        Strategy.PESSIMISTIC: take_pessimistically,
    }
)
