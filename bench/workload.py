"""What a business does to its stock, planned from a seed: the same seed gives the same plan.

Pure: nothing here talks to a database; `bench.load` runs what is planned here.
"""

from bisect import bisect
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from random import Random

#: Orders that wait for shipment or cancellation; the oldest is closed first.
_OPEN_ORDERS = 200

#: Units of one row that are sold before a delivery brings as many back.
_RESTOCK_AT = 400

_LINES_PER_ORDER = (1, 2, 3, 4, 5)
_LINES_WEIGHTS = (50, 25, 13, 8, 4)


class Kind(StrEnum):
    """The kinds of business transaction; each is the `reason` of the rows that it changes."""

    ORDER = "order"
    SHIPMENT = "shipment"
    CANCELLATION = "cancellation"
    RECEIPT = "receipt"
    TRANSFER = "transfer"
    COUNT = "count"


#: Slightly more orders are closed than placed; too few open ones turn a closing into an order.
_MIX = {
    Kind.ORDER: 40,
    Kind.SHIPMENT: 36,
    Kind.CANCELLATION: 6,
    Kind.RECEIPT: 8,
    Kind.TRANSFER: 5,
    Kind.COUNT: 5,
}


@dataclass(frozen=True, slots=True)
class Line:
    """What a transaction adds to one row of stock, in units; negative takes away."""

    sku: str
    warehouse: str
    on_hand: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """One business transaction: all of its lines or none, each on another row, in key order.

    `reference` is the document's number. A shipment or a cancellation carries its order's.
    """

    kind: Kind
    reference: str
    lines: tuple[Line, ...]

    @property
    def closes_order(self) -> bool:
        """Whether it makes sense only if the order of its reference was granted."""
        return self.kind in (Kind.SHIPMENT, Kind.CANCELLATION)


@dataclass(frozen=True, slots=True)
class WorkloadPlan:
    """An endless sequence of transactions.

    Attributes:
        seed: the same seed gives the same sequence.
        skus: how many SKUs, `SKU-00001` on; the lower the number, the more often it sells.
        warehouses: how many warehouses, `WH-1` on.
        zipf: how skewed the SKUs are: the n-th sells in proportion to 1 / n ** zipf; 0 is even.
        hot_share: a flash sale: this part of all lines, 0 to 1, goes to `hot_sku`.
        sell_out: `hot_sku` is not delivered again as other SKUs are when they have sold.
    """

    seed: int = 1
    skus: int = 5_000
    warehouses: int = 3
    zipf: float = 1.0
    hot_share: float = 0.0
    sell_out: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that make no plan.

        Raises:
            ValueError: a size is below 1, the skew below 0, or the share outside 0 to 1.
        """
        if self.skus < 1 or self.warehouses < 1:
            raise ValueError("a workload needs at least 1 SKU and 1 warehouse")
        if self.zipf < 0 or not 0 <= self.hot_share <= 1:
            raise ValueError("zipf must be 0 or more, and hot_share between 0 and 1")

    @property
    def hot_sku(self) -> str:
        """The SKU of the flash sale, and the most sold one without it."""
        return sku_name(1)

    def transactions(self, lane: int = 0) -> Iterator[Transaction]:
        """The sequence. Each lane has its own, on the same stock and with its own references."""
        return iter(_Sequence(self, lane))


def sku_name(number: int) -> str:
    """The name of the n-th SKU, from 1."""
    return f"SKU-{number:05}"


def warehouse_name(number: int) -> str:
    """The name of the n-th warehouse, from 1."""
    return f"WH-{number}"


class _Sequence:
    """The state behind a sequence: open orders, and what was sold since the last delivery."""

    def __init__(self, plan: WorkloadPlan, lane: int) -> None:
        self._plan = plan
        self._lane = lane
        self._random = Random(f"{plan.seed}/{lane}")
        self._skus = [sku_name(n) for n in range(1, plan.skus + 1)]
        self._warehouses = [warehouse_name(n) for n in range(1, plan.warehouses + 1)]
        self._popularity = list(accumulate(n**-plan.zipf for n in range(1, plan.skus + 1)))
        self._number = 0
        self._open: deque[Transaction] = deque()
        self._sold: Counter[tuple[str, str]] = Counter()
        self._to_restock: deque[tuple[str, str]] = deque()

    def __iter__(self) -> Iterator[Transaction]:
        kinds = list(_MIX)
        weights = list(accumulate(_MIX.values()))
        while True:
            (kind,) = self._random.choices(kinds, cum_weights=weights)
            if kind in (Kind.SHIPMENT, Kind.CANCELLATION) and len(self._open) < _OPEN_ORDERS:
                kind = Kind.ORDER
            self._number += 1
            match kind:
                case Kind.ORDER:
                    yield self._order()
                case Kind.SHIPMENT | Kind.CANCELLATION:
                    yield self._close(kind)
                case Kind.RECEIPT:
                    yield self._receipt()
                case Kind.TRANSFER:
                    yield self._transfer()
                case Kind.COUNT:
                    yield self._count()

    def _sku(self) -> str:
        if self._plan.hot_share and self._random.random() < self._plan.hot_share:
            return self._plan.hot_sku
        return self._skus[bisect(self._popularity, self._random.random() * self._popularity[-1])]

    def _row(self) -> tuple[str, str]:
        return self._sku(), self._random.choice(self._warehouses)

    def _reference(self, prefix: str) -> str:
        return f"{prefix}-{self._plan.seed}-{self._lane}-{self._number}"

    def _order(self) -> Transaction:
        (size,) = self._random.choices(_LINES_PER_ORDER, _LINES_WEIGHTS)
        rows = sorted({self._row() for _ in range(size)})
        lines = tuple(Line(*row, 0, self._random.choice((1, 1, 1, 2, 3))) for row in rows)
        order = Transaction(Kind.ORDER, self._reference("ORD"), lines)
        self._open.append(order)
        for line in lines:
            if self._plan.sell_out and line.sku == self._plan.hot_sku:
                continue
            row = line.sku, line.warehouse
            before = self._sold[row]
            self._sold[row] += line.reserved
            if before < _RESTOCK_AT <= self._sold[row]:
                self._to_restock.append(row)
        return order

    def _close(self, kind: Kind) -> Transaction:
        order = self._open.popleft()
        shipped = kind is Kind.SHIPMENT
        lines = tuple(
            Line(line.sku, line.warehouse, -line.reserved if shipped else 0, -line.reserved)
            for line in order.lines
        )
        return Transaction(kind, order.reference, lines)

    def _receipt(self) -> Transaction:
        # What sold most is delivered first, as much as was sold, so that a long run never dries up.
        row = self._to_restock.popleft() if self._to_restock else self._row()
        units = self._sold.pop(row, 0) or 1
        return Transaction(Kind.RECEIPT, self._reference("REC"), (Line(*row, units, 0),))

    def _transfer(self) -> Transaction:
        if len(self._warehouses) == 1:
            return self._count()
        sku = self._sku()
        giver, taker = self._random.sample(self._warehouses, 2)
        units = self._random.randint(1, 10)
        lines = sorted([(sku, giver, -units), (sku, taker, units)])
        return Transaction(
            Kind.TRANSFER,
            self._reference("TRF"),
            tuple(Line(sku, warehouse, moved, 0) for sku, warehouse, moved in lines),
        )

    def _count(self) -> Transaction:
        difference = self._random.choice((-2, -1, 1, 2))
        return Transaction(Kind.COUNT, self._reference("CNT"), (Line(*self._row(), difference, 0),))
