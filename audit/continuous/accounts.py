"""A ledger's accounts as they are kept in the auditor's file. No I/O."""

from typing import NamedTuple

import orjson

from audit.continuous.texts import booked_text
from audit.ledger_account import LedgerAccount, Left


class Kept(NamedTuple):
    """One account.

    Attributes:
        said: as `booked_text`; None once the row was deleted and nothing is left. It stays even
            then: what comes again must not open it anew.
        version: of the last message.
        rest: what these do not say, as JSON; None for almost all.
    """

    said: str | None
    version: int
    rest: str | None


def kept(account: LedgerAccount) -> Kept:
    """The text of an account that has heard of at least one message."""
    assert account.last is not None
    fields, version = account.fields(), account.last.version
    rest = None
    if account.gap or account.behind_gap or not account.floor == account.highest == version:
        state = [account.floor, account.highest, account.gap, account.behind_gap]
        rest = orjson.dumps(state).decode()
    return Kept(None if fields is None else booked_text(fields), version, rest)


def restored(found: Kept) -> LedgerAccount:
    """The inverse of `kept`."""
    said, version, rest = found
    # The last word may say that there is a gap, which the rest says as well.
    words = "0 0" if said is None else said.removesuffix(" gap")
    on_hand, reserved, *sums = map(int, words.split(" "))
    sum_on_hand, sum_reserved = sums or (on_hand, reserved)
    account = LedgerAccount(
        True,
        sum_on_hand,
        sum_reserved,
        Left(on_hand, reserved, version),
        floor=version,
        highest=version,
    )
    if rest is not None:
        account.floor, account.highest, account.gap, account.behind_gap = orjson.loads(rest)
    return account
