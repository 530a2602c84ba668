"""The cheap look at many SKUs: equal texts are no drift, everything else is a suspect. No I/O."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from audit.compare import COUNTED_ON, StockSnapshot, is_rejected
from audit.continuous.texts import (
    available_text,
    level_text,
    message_fields,
    movement_text,
    override_text,
    row_text,
    shown_text,
)
from audit.ledger import ledger_rows
from audit.report import Key
from inventory.availability import promises
from inventory.policy import NO_OVERRIDES, ChannelKind, ChannelPolicy, PolicySet
from inventory.stock import StockLevel
from projections.fields import OVERRIDE_PREFIX
from stockwire_client.contract import Status

_STATUSES: Mapping[str, Status] = {status.value: status for status in Status}

#: Of one SKU by topic and warehouse (empty for the SKU), what was said and in which version.
Said: TypeAlias = Mapping[str, Mapping[str, tuple[str, int]]]


_NOTHING: Mapping[str, tuple[str, int]] = {}


class Seen(NamedTuple):
    """What Redis answers of one SKU.

    Attributes:
        same: whether the working state is just as it was asked to be.
        shown: by availability channel in order of names, as `audit.lua` has it.
    """

    same: bool
    shown: Sequence[str]


def asked(stock: StockSnapshot, skus: Iterable[str]) -> list[list[str]]:
    """What `audit.lua` is asked of each SKU."""
    questions = []
    for sku in skus:
        rows: list[str] = []
        for code, level in stock.levels.get(sku, {}).items():
            rows += (code, row_text(level))
        for channel, override in stock.overrides.get(sku, NO_OVERRIDES).items():
            rows += (f"{OVERRIDE_PREFIX}{channel}", override_text(override))
        # Lua's JSON makes no difference between an empty list and an empty object.
        questions.append(rows or [""])
    return questions


def suspects(
    stock: StockSnapshot,
    skus: Sequence[str],
    seen: Iterable[Seen],
    said: Mapping[str, Said],
    kept_since_us: Mapping[str, int | None],
) -> Iterator[str]:
    """Those of these SKUs where `audit.compare` may find drift.

    Args:
        stock: of these SKUs.
        skus: in the order of `seen`.
        seen: what Redis answers.
        said: what the channels were told, by SKU.
        kept_since_us: by topic, as `audit.compare.TopicSnapshot` has it.
    """
    screen = _Screen(stock, kept_since_us)
    for sku, answer in zip(skus, seen, strict=True):
        if not (is_rejected(sku) or screen.passes(sku, answer, said.get(sku, {}))):
            yield sku


class _Screen:
    """What is the same for every SKU of a page."""

    def __init__(self, stock: StockSnapshot, kept_since_us: Mapping[str, int | None]) -> None:
        self._stock = stock
        self._kept_since_us = kept_since_us
        self._sellers = PolicySet.of(stock.policies).policies
        self._levels = [p for p in stock.policies if p.kind is ChannelKind.LEVEL]
        self._ledgers = [p for p in stock.policies if p.kind is ChannelKind.MOVEMENT]

    def passes(self, sku: str, seen: Seen, said: Said) -> bool:
        levels = self._stock.levels.get(sku, {})
        return (
            seen.same
            and self._sold(sku, levels, seen.shown, said)
            and all(_leveled(policy, levels, said) for policy in self._levels)
            and all(self._booked(policy, sku, levels, said) for policy in self._ledgers)
        )

    def _sold(
        self, sku: str, levels: Mapping[str, StockLevel], shown: Sequence[str], said: Said
    ) -> bool:
        found = [text.rpartition(" ") for text in shown]
        previous = {}
        for policy, (text, _, _) in zip(self._sellers, found, strict=True):
            words = (text or _text(said, policy.topic)).split(" ", 2)
            if len(words) > 1 and words[1] in _STATUSES:
                previous[policy.name] = _STATUSES[words[1]]
        overrides = self._stock.overrides.get(sku, NO_OVERRIDES)
        told = promises(levels, overrides, self._sellers, previous) if levels else {}
        for policy, (text, _, version) in zip(self._sellers, found, strict=True):
            promised = told.get(policy.name)
            if text != shown_text(promised):
                return False
            message = said.get(policy.topic)
            if promised is None:
                if message or version:
                    return False
            elif not (
                message
                and len(message) == 1
                and (last := message.get(""))
                and last[0] == available_text(text, promised.restock_at)
                # See `audit.compare`: a message may be older than Redis, and a little newer.
                and version.isdecimal()
                and last[1] <= int(version) + COUNTED_ON
            ):
                return False
        return True

    def _booked(
        self, policy: ChannelPolicy, sku: str, levels: Mapping[str, StockLevel], said: Said
    ) -> bool:
        accounts = said.get(policy.topic, _NOTHING)
        if accounts == {
            code: (movement_text(level), level.version) for code, level in levels.items()
        }:
            return policy.warehouses is None or all(map(policy.sells_from, levels))
        # History, echoes and what has expired: as the exact comparison has it.
        kept = self._kept_since_us.get(policy.topic)
        told = {
            Key(sku, code or None): message_fields(ChannelKind.MOVEMENT, *last)
            for code, last in accounts.items()
        }
        rows = [(Key(sku, code), level) for code, level in levels.items()]
        wanted, found, _ = ledger_rows(rows, self._stock.echoes, policy, told, kept)
        return all(
            key in wanted and all(fields.get(name) == v for name, v in wanted[key].items())
            for key, fields in found.items()
        ) and not (wanted.keys() - found.keys())


def _text(said: Said, topic: str) -> str:
    return said.get(topic, {}).get("", ("", 0))[0]


def _leveled(policy: ChannelPolicy, levels: Mapping[str, StockLevel], said: Said) -> bool:
    return said.get(policy.topic, _NOTHING) == {
        code: (level_text(level), level.version)
        for code, level in levels.items()
        if policy.warehouses is None or code in policy.warehouses
    }
