"""What a channel of kind `level` or `movement` must be told of a row. No I/O."""

from audit.agreement import Agreement, LastMessage, Says, topic_says
from audit.explanation import LastChange
from audit.facts import CommittedRow, SkuFacts
from audit.report import Fields
from inventory.policy import ChannelPolicy
from inventory.stock import StockRow


def level_fields(row: StockRow) -> Fields:
    """What the level of a row must say."""
    return {
        "on_hand": row.on_hand,
        "reserved": row.reserved,
        "safety_stock": row.safety_stock,
        "incoming": row.incoming,
        "available": row.free,
        "version": row.version,
    }


def movement_fields(row: StockRow) -> Fields:
    """What the last movement or balance of a row must say."""
    return {"on_hand": row.on_hand, "reserved": row.reserved, "version": row.version}


def level_says(message: LastMessage | None, row: CommittedRow | None, *, fresh: bool) -> Says:
    """Compare the level that a channel was told last."""
    return topic_says(message, None if row is None else level_fields(row.row), fresh=fresh)


def movement_says(
    message: LastMessage | None,
    row: CommittedRow,
    policy: ChannelPolicy,
    *,
    fresh: bool,
    truncated: bool,
) -> Says:
    """Compare the last movement of a row.

    Args:
        message: None where the topic has none of the row.
        row: as it is in Postgres.
        policy: of the channel, which may not want to hear of what it has caused itself.
        fresh: whether the last change is so new that a difference may be on its way.
        truncated: whether messages may have expired.
    """
    says = topic_says(message, movement_fields(row.row), fresh=fresh)
    if says.agreement is Agreement.AGREES:
        return says
    if policy.is_echo(row.row.caused_by):
        return says.excused("not told of the last change: the channel has caused it itself")
    if message is None and truncated:
        return says.excused("its messages have expired")
    return says


def last_row_change(facts: SkuFacts, policy: ChannelPolicy) -> LastChange | None:
    """The newest row that the channel is told of, or its policy if that is newer."""
    changes = [
        LastChange(f"stock in {code}", row.version, at_us, row.reason, row.reference, row.caused_by)
        for code, (row, at_us) in facts.rows.items()
        if policy.sells_from(code)
    ]
    changes.append(LastChange(f"policy of {policy.name}", policy.version, policy.committed_us))
    return max(changes, key=lambda change: change.at_us)
