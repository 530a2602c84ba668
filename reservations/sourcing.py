"""From which warehouses a basket is taken. Pure: rows in, parts out."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations
from math import comb
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from reservations.basket import Line, Short, Sourcing

#: Sets of up to so many warehouses are tried, each of them, to find the smallest that has all;
#: above it warehouses are added one by one, the one that brings the most first.
EXACT_WAREHOUSES = 3
#: Where there are more sets of a size than these, they are not tried.
MOST_SETS = 2_000


class Row(NamedTuple):
    """What is free of a SKU in a warehouse, in units, and the row's version."""

    warehouse: str
    free: int
    version: int


class Part(NamedTuple):
    """Units to be taken from a row, and the version that the row had."""

    sku: str
    warehouse: str
    quantity: int
    version: int


#: The rows of a SKU that have free units, in the order of the warehouses' priority.
Rows: TypeAlias = Mapping[str, Sequence[Row]]
#: The lines, their rows, and all of their warehouses in the order of priority.
Policy: TypeAlias = Callable[[Sequence[Line], Rows, Sequence[str]], list[Part]]


class Missing(NamedTuple):
    """Lines that cannot be had; those of SKUs that have no row at all are `unknown`."""

    short: tuple[Short, ...]
    unknown: bool


def source(
    lines: Sequence[Line],
    rows: Mapping[str, Sequence[Row]],
    policy: Sourcing,
    warehouses: Sequence[str] = (),
) -> list[Part] | Missing:
    """The parts of a basket, in the order of their SKU and warehouse, or what is missing.

    Args:
        lines: the basket, each SKU once.
        rows: by SKU, in any order.
        policy: chooses among the warehouses that have units.
        warehouses: those that may be used, in the order of their priority; none for all of them, in
            the order of their codes.
    """
    rank = {warehouse: place for place, warehouse in enumerate(warehouses)}
    usable: dict[str, list[Row]] = {}
    short = []
    unknown = False
    for line in lines:
        known = [row for row in rows.get(line.sku, ()) if not rank or row.warehouse in rank]
        free = [row for row in known if row.free > 0]
        available = sum(row.free for row in free)
        if available < line.quantity:
            short.append(Short(line.sku, line.quantity, available))
            unknown = unknown or not known
        free.sort(key=lambda row: (rank.get(row.warehouse, 0), row.warehouse))
        usable[line.sku] = free
    if short:
        return Missing(tuple(short), unknown)
    codes = {row.warehouse for free in usable.values() for row in free}
    ordered = sorted(codes, key=lambda code: (rank.get(code, 0), code))
    return sorted(POLICIES[policy](lines, usable, ordered))


def by_priority(lines: Sequence[Line], rows: Rows, _: Sequence[str]) -> list[Part]:
    """What the first warehouse has, then what the second one has."""
    return _filled(lines, rows.__getitem__)


def by_stock(lines: Sequence[Line], rows: Rows, _: Sequence[str]) -> list[Part]:
    """What the warehouse with the most free units has; among equals, the first."""
    return _filled(lines, lambda sku: sorted(rows[sku], key=lambda row: -row.free))


def by_splits(lines: Sequence[Line], rows: Rows, codes: Sequence[str]) -> list[Part]:
    """From as few warehouses as possible, over the whole basket; then each line from as few.

    Among sets of one size, the one whose warehouses come first. Exact up to
    `EXACT_WAREHOUSES`.
    """
    chosen = _fewest(lines, rows, codes)

    def order(sku: str) -> list[Row]:
        return sorted(
            (row for row in rows[sku] if row.warehouse in chosen), key=lambda row: -row.free
        )

    def preferred(line: Line) -> list[Row]:
        among = order(line.sku)
        # The smallest that has it all leaves the large ones for large lines.
        return [row for row in reversed(among) if row.free >= line.quantity][:1] or among

    by_line = {line.sku: preferred(line) for line in lines}
    return _filled(lines, by_line.__getitem__)


#: Each policy under its name; their rows suffice for each line.
POLICIES: Mapping[Sourcing, Policy] = MappingProxyType(
    {
        Sourcing.PRIORITY: by_priority,
        Sourcing.FEWEST_SPLITS: by_splits,
        Sourcing.HIGHEST_STOCK: by_stock,
    }
)


def _filled(lines: Iterable[Line], order: Callable[[str], Sequence[Row]]) -> list[Part]:
    """Each line from its rows in their order, as much as each has."""
    parts = []
    for sku, wanted in ((line.sku, line.quantity) for line in lines):
        left = wanted
        for warehouse, free, version in order(sku):
            quantity = min(left, free)
            parts.append(Part(sku, warehouse, quantity, version))
            left -= quantity
            if not left:
                break
    return parts


def _fewest(lines: Sequence[Line], rows: Rows, codes: Sequence[str]) -> Collection[str]:
    """A smallest set of warehouses that has every line."""
    free = [(line.quantity, {row.warehouse: row.free for row in rows[line.sku]}) for line in lines]

    def enough(chosen: Collection[str]) -> bool:
        return all(
            sum(units.get(code, 0) for code in chosen) >= quantity for quantity, units in free
        )

    for size in range(1, min(EXACT_WAREHOUSES, len(codes)) + 1):
        if comb(len(codes), size) > MOST_SETS:
            break
        for chosen in combinations(codes, size):
            if enough(chosen):
                return chosen
    return _growing(codes, free)


def _growing(codes: Sequence[str], free: Sequence[tuple[int, Mapping[str, int]]]) -> list[str]:
    """Warehouses added one by one, each time the one that brings the most of what is missing."""
    left = [quantity for quantity, _ in free]
    chosen: list[str] = []
    while any(left):
        best = max(
            (code for code in codes if code not in chosen),
            key=lambda code: sum(
                min(missing, units.get(code, 0))
                for missing, (_, units) in zip(left, free, strict=True)
            ),
        )
        chosen.append(best)
        left = [
            missing - min(missing, units.get(best, 0))
            for missing, (_, units) in zip(left, free, strict=True)
        ]
    return chosen
