"""Explains a number: reads Postgres, Redis and the channel's topic, and compares them."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Self

from confluent_kafka import Consumer
from redis import Redis

from audit.account import account_for
from audit.agreement import Agreement, Says, promised_fields, redis_says, topic_says
from audit.explanation import Account, Explanation, RowSays, RowsExplanation, is_fresh
from audit.facts import SkuFacts
from audit.last_message import KeyReader
from audit.projection import UNREADABLE
from audit.rows import last_row_change, level_says, movement_says
from audit.sku import read_facts, read_shown, read_state
from audit.topics import open_consumer
from inventory.errors import AuditError, NotFound, Outage
from inventory.names import check_sku, level_key
from inventory.policy import ChannelKind, ChannelPolicy
from inventory.projection import SkuState

#: Pause between two looks, in seconds.
_INTERVAL = 0.1


class Explainer:
    """Explains what channels are told of a SKU.

    A store that does not answer is part of the explanation, except for Postgres: without it
    nothing can be said.

    Args:
        conninfo: libpq URL or keywords of a role that may read the schema `inventory`.
        redis: a client with `decode_responses=False`.
        consumer: as `audit.topics.open_consumer` makes it.
    """

    def __init__(self, conninfo: str, redis: Redis, consumer: Consumer) -> None:
        self._conninfo = conninfo
        self._redis = redis
        self._consumer = consumer

    @classmethod
    @contextmanager
    def open(cls, conninfo: str, redis_url: str, bootstrap: str) -> Iterator[Self]:
        """An explainer with its own connections, closed at the end."""
        with (
            closing(Redis.from_url(redis_url)) as redis,
            closing(open_consumer(bootstrap)) as consumer,
        ):
            yield cls(conninfo, redis, consumer)

    def explain(
        self, sku: str, channel: str, patience: float = 0.0
    ) -> Explanation | RowsExplanation:
        """Why a channel is told what it is told of a SKU.

        Args:
            sku: the SKU.
            channel: a channel of any kind.
            patience: seconds to look again while something differs: the places are read one
                after the other, and changes go on meanwhile.

        Raises:
            NotFound: there is no such SKU or channel.
            InvalidEvent: the SKU is one that cannot be projected.
            Outage: Postgres does not answer.
            AuditError: it refuses.
        """
        deadline = time.monotonic() + patience
        while True:
            found = self._look(sku, channel)
            if found.agreement is not Agreement.DIFFERS or time.monotonic() >= deadline:
                return found
            time.sleep(_INTERVAL)

    def explain_all(self, sku: str, patience: float = 0.0) -> list[Explanation]:
        """The same for each availability channel, by name; raises as `explain` does."""
        sellers = self._facts(sku).sellers.policies
        found = [self.explain(sku, policy.name, patience) for policy in sellers]
        return [explanation for explanation in found if isinstance(explanation, Explanation)]

    def _look(self, sku: str, channel: str) -> Explanation | RowsExplanation:
        facts = self._facts(sku)
        policy = next((each for each in facts.policies if each.name == channel), None)
        if policy is None:
            known = ", ".join(each.name for each in facts.policies) or "none yet"
            raise NotFound(f"There is no channel {channel!r}; the channels are {known}.")
        if policy.kind is ChannelKind.AVAILABILITY:
            return self._explain_availability(facts, policy)
        return self._explain_rows(facts, policy)

    def _facts(self, sku: str) -> SkuFacts:
        check_sku(sku)
        facts = read_facts(self._conninfo, sku)
        if not facts.rows and not self._was_there(sku):
            raise NotFound(
                f"There is no SKU {sku!r}: Postgres has no row of it and Redis has never seen one; "
                "check its spelling, upper and lower case differ."
            )
        return facts

    def _was_there(self, sku: str) -> bool:
        try:
            return bool(read_state(self._redis, sku).levels)
        except (Outage, *UNREADABLE):
            # Whatever it is, something is there; the explanation says what.
            return True

    def _explain_availability(self, facts: SkuFacts, policy: ChannelPolicy) -> Explanation:
        state: SkuState | None = None
        try:
            state = read_state(self._redis, facts.sku)
            shown = read_shown(self._redis, facts.sku)
        except (Outage, *UNREADABLE) as exc:
            account = account_for(facts, policy, state)
            redis = Says(Agreement.UNKNOWN, reason=_text(exc))
        else:
            account = account_for(facts, policy, state)
            redis = redis_says(shown, policy.name, account.promised, fresh=account.fresh)
        return Explanation(account, redis, self._topic_of(account))

    def _topic_of(self, account: Account) -> Says:
        last = account.last_change
        since_us = None if last is None else last.at_us
        key = account.facts.sku.encode()

        def look() -> Says:
            reader = KeyReader(self._consumer, account.policy.topic, key, since_us)
            expected = promised_fields(account.promised)
            return topic_says(reader.last(), expected, fresh=account.fresh)

        return _unless_away(look)

    def _explain_rows(self, facts: SkuFacts, policy: ChannelPolicy) -> RowsExplanation:
        last = last_row_change(facts, policy)
        fresh = is_fresh(last, facts.now_us)
        told = self._levels if policy.kind is ChannelKind.LEVEL else self._movements
        return RowsExplanation(
            facts,
            policy,
            told(facts, policy, fresh=fresh),
            tuple(code for code in sorted(facts.rows) if not policy.sells_from(code)),
            last,
        )

    def _levels(
        self, facts: SkuFacts, policy: ChannelPolicy, *, fresh: bool
    ) -> tuple[RowSays, ...]:
        def says(code: str) -> Says:
            row = facts.rows.get(code)
            since_us = None if row is None else row.updated_us
            key = level_key(facts.sku, code).encode()
            reader = KeyReader(self._consumer, policy.topic, key, since_us)
            return level_says(reader.last(), row, fresh=fresh)

        return tuple(
            RowSays(code, facts.rows.get(code), _unless_away(partial(says, code)))
            for code in _codes(facts, policy)
        )

    def _movements(
        self, facts: SkuFacts, policy: ChannelPolicy, *, fresh: bool
    ) -> tuple[RowSays, ...]:
        rows = {code: facts.rows[code] for code in _codes(facts, policy) if code in facts.rows}
        if not rows:
            return ()
        try:
            reader = KeyReader(
                self._consumer,
                policy.topic,
                facts.sku.encode(),
                min(row.updated_us for row in rows.values()),
            )
            told = reader.last_of_each({code: row.row.version for code, row in rows.items()})
        except (Outage, AuditError) as exc:
            unknown = Says(Agreement.UNKNOWN, reason=_text(exc))
            return tuple(RowSays(code, row, unknown) for code, row in rows.items())
        return tuple(
            RowSays(
                code,
                row,
                movement_says(told.get(code), row, policy, fresh=fresh, truncated=reader.truncated),
            )
            for code, row in rows.items()
        )


def _codes(facts: SkuFacts, policy: ChannelPolicy) -> tuple[str, ...]:
    """The channel's warehouses, in its order of priority."""
    return tuple(sorted(facts.rows)) if policy.warehouses is None else policy.warehouses


def _unless_away(look: Callable[[], Says]) -> Says:
    try:
        return look()
    except (Outage, AuditError) as exc:
        return Says(Agreement.UNKNOWN, reason=_text(exc))


def _text(exc: Exception) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
