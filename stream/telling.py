"""What channels of kind level and movement are told of stock changes: pure."""

from collections.abc import Iterable, Sequence

from inventory.messages import (
    IN_SNAPSHOT,
    UNATTRIBUTED,
    Header,
    OutgoingMessage,
    level_message,
    level_withdrawal,
    movement_message,
    timestamp,
)
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.stock import Operation, StockChange, StockRow


def changes_told(
    changes: Iterable[StockChange], policies: Sequence[ChannelPolicy]
) -> list[OutgoingMessage]:
    """Every change, none left out and none merged, to every channel that sells from there.

    A ledger is not told of the movements that it has caused itself.
    """
    messages: list[OutgoingMessage] = []
    for change in changes:
        committed_at = timestamp(change.committed_us)
        for policy in policies:
            if not policy.sells_from(change.warehouse):
                continue
            if policy.kind is ChannelKind.LEVEL:
                messages.append(level_message(change, policy, committed_at))
            elif not (
                change.operation is not Operation.READ
                and change.after is not None
                and policy.is_echo(change.after.caused_by)
            ):
                messages.append(movement_message(change, policy, committed_at))
    return messages


def state_told(
    changes: Iterable[StockChange],
    policy: ChannelPolicy,
    *,
    snapshot: bool,
    withdraw: bool = False,
) -> list[OutgoingMessage]:
    """How these changes leave each row: as a level or a balance, a deleted one as gone or zero.

    Args:
        changes: in their order; earlier ones of a row are left out.
        policy: of the channel.
        snapshot: whether the messages belong to a back-fill.
        withdraw: whether to say, too, which rows the channel hears of no longer.
    """
    marks: tuple[Header, ...] = IN_SNAPSHOT if snapshot else ()
    messages: list[OutgoingMessage] = []
    for change in _last(changes):
        committed_at = timestamp(change.committed_us)
        sold = policy.sells_from(change.warehouse)
        if policy.kind is ChannelKind.MOVEMENT:
            if sold:
                messages.append(movement_message(_balance(change), policy, committed_at, marks))
        elif sold:
            messages.append(level_message(change, policy, committed_at, marks))
        elif withdraw:
            messages.append(level_withdrawal(change, policy, marks))
    return messages


def farewell(changes: Iterable[StockChange], policy: ChannelPolicy) -> list[OutgoingMessage]:
    """To a channel of kind level that is gone: every row is none of its business any more."""
    return [level_withdrawal(change, policy) for change in _last(changes)]


def _last(changes: Iterable[StockChange]) -> Iterable[StockChange]:
    return {(change.sku, change.warehouse): change for change in changes}.values()


def _balance(change: StockChange) -> StockChange:
    """A change as a snapshot would read the row after it; a deleted one is there with nothing."""
    row = change.after or StockRow(0, 0, 0, 0, None, change.version, UNATTRIBUTED)
    return change._replace(operation=Operation.READ, before=None, after=row)
