"""Readers are switched to a shadow, if it has all."""

from functools import partial
from types import SimpleNamespace

import pytest

from inventory.errors import RebuildError
from projections.checkpoint import CHECKPOINT_KEY
from projections.marks import MARKS_KEY, REFUSALS_KEY
from projections.ports import SkuChanges
from rebuild import follow
from rebuild.mend import Load
from rebuild.options import Options, Result
from rebuild.portion import Portion
from rebuild.progress import (
    DIFFERING_KEY,
    OWN_KEYS,
    REBUILD_KEY,
    SUSPECTS_KEY,
)
from rebuild.session import LOCK_KEY
from rebuild.shadow import Shadow
from rebuild.shadow_space import Switched
from tests.integration.rebuild.spaces import LIVE, OWNER, Swap
from tests.projector_contract import (
    POLICIES,
    fresh_sku,
    level,
)

pytestmark = pytest.mark.integration


def test_readers_are_switched_and_what_is_beside_the_skus_stays(swap: Swap):
    assert swap.switch() is Switched.DONE
    assert swap.live.hget("availability:{SKU}", "web") == b"shadow"
    assert swap.live.hgetall(CHECKPOINT_KEY) == {
        b"stock/0": b"5",
        b":version": b"12",
        b":begun": b"1",
    }
    assert swap.live.hgetall(MARKS_KEY) == {b"0": b'{"web":"abc"}'}
    assert swap.live.get("stockwire:other") == b"kept"
    assert swap.live.get(b"somebody's \xff") == b"kept, too"
    assert swap.live.pttl(b"somebody's \xff") > 0
    assert swap.live.pttl(LOCK_KEY) > 0
    assert swap.shadow.hget("availability:{SKU}", "web") == b"live"


def test_what_a_worker_writes_between_look_and_switch_stays(swap: Swap):
    keys = swap.spaces.kept_keys()
    swap.live.hset(REFUSALS_KEY, "worker|topic", "{}")
    assert swap.switch(keys=keys) is Switched.DONE
    assert swap.live.hgetall(REFUSALS_KEY) == {b"worker|topic": b"{}"}


def test_a_switch_whose_reply_was_lost_is_done(swap: Swap):
    assert swap.switch() is Switched.DONE
    assert swap.switch() is Switched.DONE
    assert swap.live.hget("availability:{SKU}", "web") == b"shadow"


def test_what_differs_for_long_is_loaded_again_and_then_switched_to(swap: Swap, world, monkeypatch):
    monkeypatch.setattr(follow, "_SETTLED", 0.0)
    sku = fresh_sku()
    whole = {sku: SkuChanges({"ams": level(4, 10), "nyc": level(4, 5)})}
    world.write(whole, LIVE)
    load = Load(swap.live, swap.shadow, POLICIES, OWNER)
    load.take(Portion({sku: SkuChanges({"ams": level(4, 10)})}, {}, 1))
    swap.shadow.sadd(DIFFERING_KEY, sku)
    follower = SimpleNamespace(step=lambda: 0, positions={"stock/0": "5", "stock/1": "0"})
    policies = SimpleNamespace(all=POLICIES, digests={"web": "abc"})
    attempt = partial(swap.spaces.switch, swap.session, keep=False)
    switch = follow.Switch(swap.spaces, follower, policies, "", load, attempt)
    rows = SimpleNamespace(of=lambda skus: {sku: whole[sku] for sku in skus})
    before = world.hashes(LIVE, sku)
    assert "not as Postgres says" in switch._attempt(rows)
    swap.assert_live_is_served()
    assert switch._attempt(rows) is None
    assert swap.live.hget("availability:{SKU}", "web") == b"shadow"
    assert world.hashes(LIVE, sku) == before


def workers_go_on(swap: Swap):
    swap.live.hset(CHECKPOINT_KEY, "stock/0", 6)


def audit_finds_one(swap: Swap):
    swap.shadow.sadd(DIFFERING_KEY, "SKU")


@pytest.mark.parametrize(
    ("meanwhile", "attempt", "expected"),
    [
        (workers_go_on, {}, Switched.BEHIND),
        (audit_finds_one, {}, Switched.DIFFERING),
        (None, {"marks": b'{"web":"other"}'}, Switched.MARKS),
        (None, {"partition": 1}, Switched.MARKS),
    ],
)
def test_readers_are_not_switched_unless_the_shadow_has_all(
    swap: Swap, meanwhile, attempt, expected
):
    if meanwhile is not None:
        meanwhile(swap)
    assert swap.switch(**attempt) is expected
    swap.assert_live_is_served()


def loses_a_position(swap: Swap):
    """A failover to a replica that lacks the end of what was written."""
    swap.shadow.hset(REBUILD_KEY, "at:stock/0", 3)
    swap.live.hset(CHECKPOINT_KEY, "stock/0", 3)


def loses_a_part(swap: Swap):
    swap.shadow.hdel(REBUILD_KEY, "done:stock/1")


def loses_the_audit(swap: Swap):
    swap.shadow.hdel(REBUILD_KEY, "audited")


def loses_all(swap: Swap):
    swap.shadow.flushdb()


def is_another_run_s(swap: Swap):
    swap.shadow.hset(REBUILD_KEY, "owner", "that run")


@pytest.mark.parametrize(
    "loss", [loses_a_position, loses_a_part, loses_the_audit, loses_all, is_another_run_s]
)
def test_readers_are_not_switched_to_a_shadow_that_does_not_say_it_has_all(swap: Swap, loss):
    loss(swap)
    with pytest.raises(RebuildError, match="does not have all that was written"):
        swap.switch()
    swap.assert_live_is_served()


def test_readers_are_not_switched_on_another_run_of_the_server(swap: Swap):
    with pytest.raises(RebuildError, match="started again or has failed over"):
        swap.switch(session=swap.session._replace(run_id="0" * 40))
    swap.assert_live_is_served()


def test_a_run_that_was_paused_for_too_long_neither_switches_nor_empties(swap: Swap):
    """Its lock expired, and another run has the shadow now."""
    swap.live.set(LOCK_KEY, "that run")
    with pytest.raises(RebuildError, match="lock of the rebuild was lost"):
        swap.switch()
    with pytest.raises(RebuildError, match="lock of the rebuild was lost"):
        swap.spaces.clear(swap.session)
    swap.assert_live_is_served()
    assert swap.shadow.hget("availability:{SKU}", "web") == b"shadow"


class KilledError(Exception):
    """Takes the place of kill -9."""


class Finishing:
    """What `Shadow.finish` needs of `Steps`; it dies once when channels are to be told."""

    def __init__(self, swap: Swap, *, fingerprint="these", dies=False):
        self.live, self.session = swap.live, swap.session
        self.options = Options(shadow=True)
        self.result = Result(self.options.source, True)
        self.told = 0
        self._policies = SimpleNamespace(fingerprint=fingerprint)
        self._dies = dies

    def policies(self):
        return self._policies

    def tell(self, _policies):
        if self._dies:
            raise KilledError
        self.told += 1


@pytest.mark.parametrize("keep", [False, True])
def test_a_run_that_was_killed_after_the_switch_is_finished_by_the_next(swap: Swap, keep):
    swap.shadow.sadd(SUSPECTS_KEY, "SKU")
    assert swap.switch(keep=keep) is Switched.DONE
    with pytest.raises(KilledError):
        Shadow(Finishing(swap, dies=True), swap.spaces).finish()
    steps = Finishing(swap)
    assert Shadow(steps, swap.spaces).finish()
    assert (steps.told, steps.result.wrong, steps.result.switched) == (1, 1, True)
    assert bool(swap.shadow.dbsize()) is keep
    assert not swap.live.exists(*OWN_KEYS)
    assert not Shadow(steps, swap.spaces).finish(), "once is enough"


@pytest.mark.parametrize(("fingerprint", "told"), [("these", 0), ("those", 1)])
def test_channels_are_told_after_a_switch_if_policies_were_edited(swap: Swap, fingerprint, told):
    assert swap.switch() is Switched.DONE
    steps = Finishing(swap, fingerprint=fingerprint)
    assert Shadow(steps, swap.spaces).finish()
    assert steps.told == told


def test_readers_are_not_switched_from_a_space_that_lost_its_checkpoint(swap: Swap):
    swap.live.delete(CHECKPOINT_KEY)
    assert swap.switch() is Switched.BEHIND
