"""Why a channel may promise what it promises of a SKU, step by step. No I/O."""

from collections.abc import Mapping

from audit.explanation import Account, Answer, LastChange, Step, WarehouseLine
from audit.facts import SkuFacts
from inventory.availability import (
    Availability,
    Units,
    Waterfall,
    availability,
    ring_fences,
    waterfall,
)
from inventory.policy import SHARE_UNITS, ChannelOverride, ChannelPolicy, with_override
from inventory.projection import SkuState, is_current
from stockwire_client.contract import Status


def account_for(facts: SkuFacts, policy: ChannelPolicy, state: SkuState | None) -> Account:
    """What Postgres says of a SKU on an availability channel.

    Args:
        facts: of the SKU.
        policy: of the channel, one of `facts.policies`.
        state: the working state, which alone knows the status before this one and when a row
            was deleted; None if it cannot be read.
    """
    override = facts.overrides.get(policy.name)
    merged = with_override(policy, override)
    held = ring_fences(facts.levels, facts.overrides, facts.sellers.policies)
    previous = None if state is None else _previous_status(state, policy.name, facts)
    promised = availability(facts.levels, policy, override, held, previous)
    fall = waterfall(facts.levels, merged, held)
    codes = sorted(facts.rows) if policy.warehouses is None else policy.warehouses
    lines = tuple(
        WarehouseLine(
            code,
            facts.rows.get(code),
            {name: units[code] for name, units in sorted(held.items()) if code in units},
        )
        for code in codes
    )
    answer = _answer(promised)
    return Account(
        facts,
        policy,
        override,
        answer,
        lines,
        tuple(code for code in sorted(facts.rows) if not policy.sells_from(code)),
        () if fall is None else _steps(lines, merged, override, fall, held, answer),
        promised,
        _why_status(promised, merged, previous),
        last_change(facts, policy, state, held),
    )


def _answer(promised: Availability | None) -> Answer:
    if promised is None:
        return Answer.NOT_LISTED
    blocked = {
        Status.CHANNEL_BLOCKED: Answer.CHANNEL_BLOCKED,
        Status.SKU_BLOCKED: Answer.SKU_BLOCKED,
    }
    return blocked.get(promised.status, Answer.SOLD)


def _steps(
    lines: tuple[WarehouseLine, ...],
    policy: ChannelPolicy,
    override: ChannelOverride | None,
    fall: Waterfall,
    held: Mapping[str, Units],
    answer: Answer,
) -> tuple[Step, ...]:
    """The waterfall as a person reads it; what takes nothing away and is not a rule is left out.

    `policy` has the SKU's override in it; `fall` has the figures, which the steps only spell out.
    """
    rows = [line.row.row for line in lines if line.row is not None]
    on_hand = sum(row.on_hand for row in rows)
    reserved = sum(row.reserved for row in rows)
    safety = sum(row.safety_stock for row in rows)
    found = [
        Step("on hand", on_hand, on_hand),
        Step("reserved", -reserved, on_hand - reserved),
        Step("safety stock", -safety, on_hand - reserved - safety),
    ]

    def take(name: str, left: int, source: str, *, always: bool = False) -> None:
        delta = left - found[-1].left
        if delta or always:
            found.append(Step(name, delta, left, source))

    take("below zero", fall.free, "a warehouse that is short takes nothing from the others")
    others = ", ".join(name for name in sorted(held) if name != policy.name)
    take("ring-fenced for others", fall.free - fall.others, others)
    take("ring-fenced for itself", fall.pool, "set aside before buffer and share")
    take("buffer", fall.buffered, _rule("buffer", policy.buffer, override), always=True)
    share = _rule("share", f"{policy.share * 100 / SHARE_UNITS:g}%", override)
    take("share", fall.shared, f"{share}, rounded down", always=True)
    take("own ring-fence", fall.available, "as far as it could be filled")
    if answer is Answer.CHANNEL_BLOCKED:
        take("channel blocked", 0, "policy", always=True)
    elif answer is Answer.SKU_BLOCKED:
        take("SKU blocked", 0, "override", always=True)
    return tuple(found)


def _rule(name: str, value: object, override: ChannelOverride | None) -> str:
    own = override is not None and not override.deleted and getattr(override, name) is not None
    return f"{value} by {'override' if own else 'policy'}"


def _why_status(
    promised: Availability | None, policy: ChannelPolicy, previous: Status | None
) -> str:
    """Why the status is as it is, hysteresis included where it has decided."""
    if promised is None:
        return "The SKU has no row in any of the channel's warehouses."
    available, threshold = promised.available, policy.low_stock_threshold
    limit = threshold + policy.low_stock_hysteresis
    match promised.status:
        case Status.CHANNEL_BLOCKED:
            return "The channel is blocked: it sells nothing."
        case Status.SKU_BLOCKED:
            return "The SKU is blocked on this channel."
        case Status.BACKORDER:
            return f"Nothing is left, but {promised.backorderable} may be sold in advance."
        case Status.OUT_OF_STOCK:
            return "Nothing is left."
        case Status.LOW_STOCK if available > threshold:
            return (
                f"{available} is above the threshold of {threshold}, but after {previous} it "
                f"must rise above {limit} (hysteresis)."
            )
        case Status.LOW_STOCK:
            return f"{available} is not above the threshold of {threshold}."
        case _ if available <= limit:
            return f"{available} is above the threshold of {threshold}; it was not low before."
        case _:
            return f"{available} is above the threshold of {threshold}."


def _previous_status(state: SkuState, channel: str, facts: SkuFacts) -> Status | None:
    """The status before the one that Postgres' state leads to."""
    told = None if state.published is None else state.published.channels.get(channel)
    if told is None:
        return None
    return told.previous_status if is_up_to_date(state, facts) else told.status


def is_up_to_date(state: SkuState, facts: SkuFacts) -> bool:
    """Whether what Redis has projected was computed from just what Postgres has."""
    levels = {code: level.version for code, level in state.levels.items() if not level.deleted}
    overrides = {name: own.version for name, own in state.overrides.items() if not own.deleted}
    return (
        state.published is not None
        and is_current(state.published, state.revision, facts.sellers)
        and levels == {code: level.version for code, level in facts.levels.items()}
        and overrides == {name: own.version for name, own in facts.overrides.items()}
    )


def last_change(
    facts: SkuFacts,
    policy: ChannelPolicy,
    state: SkuState | None,
    held: Mapping[str, Units],
) -> LastChange | None:
    """The newest of all that the number is made of."""
    changes = [
        LastChange(
            f"stock in {code}",
            row.version,
            updated_us,
            row.reason,
            row.reference,
            row.caused_by,
        )
        for code, (row, updated_us) in facts.rows.items()
        if policy.sells_from(code)
    ]
    if state is not None:
        changes += [
            LastChange(f"stock in {code} deleted", level.version, level.committed_us)
            for code, level in state.levels.items()
            if level.deleted and code not in facts.rows and policy.sells_from(code)
        ]
    # Who holds a ring-fence takes part in the numbers of all.
    changes += [
        LastChange(f"policy of {each.name}", each.version, each.committed_us)
        for each in facts.policies
        if each.name == policy.name or each.name in held
    ]
    changes += [
        LastChange(f"override of {name} for this SKU", own.version, own.committed_us)
        for name, own in facts.overrides.items()
        if name == policy.name or name in held
    ]
    return max(changes, key=lambda change: change.at_us, default=None)
