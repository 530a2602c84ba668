"""Whatever is asked for in whatever order, side by side: nothing is oversold, all is told once."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks

from reservations.basket import Closed, Granted, Refused, Sourcing, Strategy
from reservations.changed import Changed
from reservations.pool import open_pool
from reservations.service import Reservations
from reservations.strategies.taker import Locking
from reservations.trying import log_no_retries
from tests.database import as_role
from tests.reservation_world import PATIENCE, assert_sound, basket, put, query, units

pytestmark = pytest.mark.integration

SKUS, WAREHOUSES = ["A", "B", "C"], ["W1", "W2"]
BASKET = st.dictionaries(st.sampled_from(SKUS), st.integers(1, 6), min_size=1)
WAY = st.one_of(
    st.just((Strategy.OPTIMISTIC, None)),
    st.sampled_from([(Strategy.PESSIMISTIC, locking) for locking in Locking]),
)


@pytest.fixture(scope="module")
def shop(database) -> Iterator[tuple[asyncio.Runner, Reservations, str]]:
    """One event loop and pool for all examples."""
    conninfo = as_role(database, "stockwire_app")
    hooks = get_on_retry_hooks()
    log_no_retries()
    opened = open_pool(conninfo, size=6, wait_seconds=PATIENCE, statement_seconds=PATIENCE)
    with asyncio.Runner() as runner:
        pool = runner.run(opened.__aenter__())
        try:
            yield runner, Reservations(pool, patience_seconds=PATIENCE), conninfo
        finally:
            runner.run(opened.__aexit__(None, None, None))
            set_on_retry_hooks(hooks)


class Shop(RuleBasedStateMachine):
    """A model of the stock beside the real one; each rule runs its requests at once."""

    runner: asyncio.Runner
    service: Reservations
    conninfo: str

    @initialize()
    def open(self):
        put(self.conninfo, [(sku, warehouse, 10) for sku in SKUS for warehouse in WAREHOUSES])
        self.on_hand = dict.fromkeys(SKUS, 20)
        self.held: dict[Any, dict[str, int]] = {}
        self.asked: list[tuple[Any, Any]] = []
        self.count = 0

    def together(self, *work):
        async def main():
            return await asyncio.gather(*work)

        return self.runner.run(main())

    def key(self):
        self.count += 1
        return f"K-{self.count}"

    def free(self, sku):
        return self.on_hand[sku] - sum(lines.get(sku, 0) for lines in self.held.values())

    @rule(
        baskets=st.lists(st.tuples(BASKET, WAY), min_size=1, max_size=6),
        sourcing=st.sampled_from(list(Sourcing)),
    )
    def buy(self, baskets, sourcing):
        before = {sku: self.free(sku) for sku in SKUS}
        asks = [basket(*lines.items(), key=self.key(), sourcing=sourcing) for lines, _ in baskets]
        answers = self.together(
            *(
                self.service.reserve(ask, strategy, locking=locking)
                for ask, (_, (strategy, locking)) in zip(asks, baskets, strict=True)
            )
        )
        for ask, (lines, _), answer in zip(asks, baskets, answers, strict=True):
            self.asked.append((ask, answer))
            if isinstance(answer, Granted):
                self.held[answer.reservation] = lines
        for (lines, _), answer in zip(baskets, answers, strict=True):
            # One that fits beside all of the others must not be refused.
            if isinstance(answer, Refused):
                others = {sku: sum(other.get(sku, 0) for other, _ in baskets) for sku in lines}
                assert any(others[sku] > before[sku] for sku in lines)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), way=WAY)
    def ask_again(self, data, way):
        ask, answer = data.draw(st.sampled_from(self.asked))
        other = replace(ask, reference="ORD-OTHER")
        again, also, reused = self.together(
            self.service.reserve(ask, way[0], locking=way[1]),
            self.service.reserve(ask),
            self.service.reserve(other, way[0], locking=way[1]),
        )
        assert again == also == answer
        assert reused.reason == "key_reused"

    @precondition(lambda self: self.held)
    @rule(data=st.data(), twice=st.booleans())
    def end(self, data, twice):
        """Confirm and release at once, perhaps of the same hold."""
        paid, back = (data.draw(st.sampled_from(list(self.held))) for _ in range(2))
        keys = [self.key()] * 2 if twice else [self.key()]
        ends = [
            self.service.confirm(paid, caller="web", key=self.key()),
            *(self.service.release(back, caller="web", key=key) for key in keys),
        ]
        confirmed, *released = self.together(*ends)
        assert len(set(map(repr, released))) == 1
        if paid == back:
            assert isinstance(confirmed, Closed) != isinstance(released[0], Closed)
        else:
            assert isinstance(confirmed, Closed)
            assert isinstance(released[0], Closed)
        if isinstance(confirmed, Closed):
            for sku, quantity in self.held[paid].items():
                self.on_hand[sku] -= quantity
        self.held = {id_: lines for id_, lines in self.held.items() if id_ not in (paid, back)}

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def time_passes(self, data):
        """Some are due, and several workers come, while one of them is paid."""
        due = data.draw(st.lists(st.sampled_from(list(self.held)), min_size=1, unique=True))
        query(
            self.conninfo,
            "UPDATE inventory.reservation SET held_until = clock_timestamp() "
            "WHERE id = ANY (%s) RETURNING id",
            due,
        )
        *ended, late = self.together(
            self.service.expire_due(),
            self.service.expire_due(),
            self.service.confirm(due[0], caller="web", key=self.key()),
        )
        # One that the late payment has locked is left for the next look.
        assert sum(ended) + self.runner.run(self.service.expire_due()) == len(due)
        assert late.reason == "expired"
        for reservation in due:
            del self.held[reservation]

    @rule(
        sku=st.sampled_from(SKUS),
        delta=st.integers(-8, 8).filter(bool),
        warehouse=st.sampled_from(WAREHOUSES),
        quantity=st.integers(1, 6),
    )
    def count_and_carry(self, sku, delta, warehouse, quantity):
        by = {"caller": "wms", "reference": "DOC"}
        adjusted, _ = self.together(
            self.service.adjust(sku, warehouse, delta, key=self.key(), **by),
            self.service.transfer(sku, "W1", "W2", quantity, key=self.key(), **by),
        )
        if isinstance(adjusted, Changed):
            self.on_hand[sku] += delta

    @invariant()
    def sound(self):
        assert_sound(self.conninfo)
        found = units(self.conninfo)
        for sku in SKUS:
            rows = [found[sku, warehouse] for warehouse in WAREHOUSES]
            assert sum(on_hand for on_hand, _ in rows) == self.on_hand[sku]
            assert sum(on_hand - reserved for on_hand, reserved in rows) == self.free(sku)


def test_nothing_is_oversold_and_everything_is_told_once(shop):
    Shop.runner, Shop.service, Shop.conninfo = shop
    run_state_machine_as_test(
        Shop,
        settings=settings(
            max_examples=10,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
