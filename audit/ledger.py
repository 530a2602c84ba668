"""What a ledger's accounts must be, after it was told all that it is told. No I/O."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from audit.report import Fields, Key
from inventory.policy import ChannelPolicy
from inventory.stock import StockLevel


class LedgerRows(NamedTuple):
    """What is to be compared.

    Attributes:
        expected: by row, what its account must be.
        found: the accounts that there may be only if they are expected.
        expired: rows whose messages may have expired.
    """

    expected: dict[Key, Fields]
    found: dict[Key, Fields]
    expired: int


def ledger_rows(
    rows: Iterable[tuple[Key, StockLevel]],
    echoes: Mapping[Key, str],
    policy: ChannelPolicy,
    accounts: Mapping[Key, Fields],
    kept_since_us: int | None,
) -> LedgerRows:
    """The rows of the warehouses that a channel is about now; others are history to it.

    A channel that is not told of what it has caused itself misses those movements. What still must
    hold there:

    - a row that somebody else has changed last was told last as it is;
    - a row that the channel has changed last was told as it is, or in an older version, or never;
    - where no version is missing in between, the movements add up.

    That a movement was lost, and not left out, cannot be seen once the channel itself has changed
    the row again. After an edit of `echo_of`, rows whose last change the former one has caused
    count as lost until they change or are told as a balance.

    Args:
        rows: of all warehouses.
        echoes: as in `audit.compare.StockSnapshot`.
        policy: of the channel.
        accounts: as `audit.subscriber.Ledger` gives them.
        kept_since_us: as in `audit.compare.TopicSnapshot`.
    """
    expected: dict[Key, Fields] = {}
    silent: set[Key] = set()
    expired = 0
    for key, level in rows:
        if _is_history(policy, key):
            continue
        told = accounts.get(key)
        if told is None and kept_since_us is not None and level.committed_us < kept_since_us:
            expired += 1
        elif policy.is_echo(echoes.get(key)) and _is_older(told, level):
            silent.add(key)
        else:
            adds_up = policy.echo_of is None or told is None or not told.get("gap")
            expected[key] = _account(level, adds_up=adds_up)
    found = {
        key: told
        for key, told in accounts.items()
        if key in expected
        or not (
            key in silent
            or _is_history(policy, key)
            or (policy.echo_of is not None and _has_ended(told))
        )
    }
    return LedgerRows(expected, found, expired)


def _account(level: StockLevel, *, adds_up: bool) -> Fields:
    account = {"on_hand": level.on_hand, "reserved": level.reserved, "version": level.version}
    if adds_up:
        account |= {"sum_on_hand": level.on_hand, "sum_reserved": level.reserved}
    return account


def _is_older(told: Fields | None, level: StockLevel) -> bool:
    """Whether a ledger was told an earlier version of a row, or nothing."""
    if told is None:
        return True
    version = told.get("version")
    return isinstance(version, int) and version < level.version


def _is_history(policy: ChannelPolicy, key: Key) -> bool:
    """Whether a row is in a warehouse that the channel is not, or no longer, about.

    From a ledger nothing is taken back.
    """
    return key.warehouse is not None and not policy.sells_from(key.warehouse)


def _has_ended(told: Fields) -> bool:
    """Whether a row's last message says that it is deleted, whatever its movements add up to."""
    version = told.get("version")
    deleted = isinstance(version, int) and version % 2 == 1
    return deleted and told.get("on_hand") == told.get("reserved") == 0
