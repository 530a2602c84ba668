"""A rebuild that is killed at any portion goes on, and ends like one that was not."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis

from inventory.errors import RebuildError
from projections.bulk import rows_of
from projections.ports import SkuChanges
from projections.space import Space
from rebuild.crew import do_part
from rebuild.mend import Load, Mend
from rebuild.portion import Portion
from rebuild.progress import REBUILD_KEY, Counts, Plan, Progress, Standing
from rebuild.session import Session, run_id_of
from rebuild.shadow_space import url_of
from tests.integration.own_redis import own_redis
from tests.polling import eventually
from tests.projector_contract import POLICIES, level

pytestmark = pytest.mark.integration

PORT = 31572
PART = "topic/0"
LIVE, SHADOW, WHOLE = 0, 1, 2
OWNER = "this run"
SKUS = [f"SKU-{n}" for n in range(12)]


class KilledError(Exception):
    """Takes the place of kill -9."""


class Rows:
    """A source of numbered rows: offset n changes SKU n modulo all."""

    def __init__(self, records, portion):
        self._records = records
        self._portion = portion

    def portions(self, part, start, end):
        for first in range(int(start or 0), int(end), self._portion):
            last = min(int(end), first + self._portion)
            changes = {}
            for offset in range(first, last):
                row = level(2 * offset + 2, offset)
                changes[SKUS[offset % len(SKUS)]] = SkuChanges({"ams": row}, partition=0)
            yield Portion(changes, {part: str(last)}, last - first)

    def close(self):
        pass


class Dying:
    """Does a work, and dies at one of its portions: before, in the middle, or after the write."""

    def __init__(self, work, at, when):
        self._work = work
        self._left = at
        self._when = when

    def take(self, portion):
        self._left -= 1
        if self._left == 0:
            if self._when == "middle":
                half = dict(list(portion.changes.items())[: len(portion.changes) // 2])
                self._work.take(portion._replace(changes=half))
            elif self._when == "after":
                self._work.take(portion)
            raise KilledError
        return self._work.take(portion)


@pytest.fixture(scope="module")
def spaces(tmp_path_factory):
    with own_redis(tmp_path_factory.mktemp("redis"), PORT) as url:
        clients = [Redis.from_url(url_of(url, n)) for n in (LIVE, SHADOW, WHOLE)]
        yield clients
        for client in clients:
            client.close()


def hashes(redis):
    return [tuple(map(dict, kept)) for kept in Space(redis).read(SKUS, readers=True)]


def numbers(redis):
    return [
        (rows_of(kept.stock), kept.readers[b"web"], kept.readers[b"app"])
        for kept in Space(redis).read(SKUS, readers=True)
    ]


def begun(redis, owner=OWNER):
    progress = Progress(redis, Session(owner, run_id_of(redis)))
    progress.begin(Plan({PART: "30"}, {}, {}))
    return progress


def run(source, work, progress):
    standing = Standing(progress.read())
    for part in standing.left:
        start, end = standing.positions.get(part), standing.parts[part]
        do_part(source, work, progress, (part, start, end), lambda: False)


@pytest.mark.parametrize("task", ["load", "mend"])
@hypothesis_settings(max_examples=60)
@given(
    records=st.integers(1, 60),
    portion=st.integers(1, 20),
    kills=st.lists(
        st.tuples(st.integers(1, 12), st.sampled_from(("before", "middle", "after"))), max_size=4
    ),
)
def test_it_ends_like_one_that_was_not_killed(spaces, task, records, portion, kills):
    live, shadow, whole = spaces
    for redis in spaces:
        redis.flushdb()

    def work(space):
        if task == "load":
            return Load(live, space, POLICIES, OWNER)
        return Mend(space, POLICIES, patience=0)

    source = Rows(records, portion)
    for space, deaths in ((whole, []), (shadow, kills)):
        progress = Progress(space, Session(OWNER, run_id_of(space)))
        progress.begin(Plan({PART: str(records)}, {}, {}))
        for at, when in deaths:
            try:
                run(source, Dying(work(space), at, when), progress)
            except KilledError:
                continue
        run(source, work(space), progress)
        assert Standing(progress.read()).left == []
        assert Standing(progress.read()).counts.records == records
    assert hashes(shadow) == hashes(whole)


def test_a_stopped_part_is_gone_on_with_after_the_portion_in_hand(spaces):
    _, shadow, _ = spaces
    shadow.flushdb()
    progress = begun(shadow)
    looks = iter([False, True])
    mend = Mend(shadow, POLICIES, patience=0)
    do_part(Rows(30, 10), mend, progress, (PART, None, "30"), lambda: next(looks))
    standing = Standing(progress.read())
    assert (standing.left, standing.positions) == ([PART], {PART: "20"})
    assert standing.counts == Counts(records=20, skus=20, mended=20)


def loses_a_portion(redis):
    redis.hset(REBUILD_KEY, f"at:{PART}", 10)


def loses_all_portions(redis):
    redis.hdel(REBUILD_KEY, f"at:{PART}")


@pytest.mark.parametrize("loss", [loses_a_portion, loses_all_portions])
@pytest.mark.parametrize("last", [{"positions": {PART: "30"}}, {"positions": {}, "done": PART}])
def test_nothing_is_noted_after_a_portion_that_redis_has_lost(spaces, loss, last):
    _, shadow, _ = spaces
    progress = begun(shadow)
    progress.note({PART: "10"})
    progress.note({PART: "20"})
    loss(shadow)
    before = progress.read()
    with pytest.raises(RebuildError, match="lost some of what the rebuild has written"):
        progress.note(**last)
    assert progress.read() == before


def test_nothing_is_noted_once_all_is_lost_or_another_run_has_taken_over(spaces):
    _, shadow, _ = spaces
    progress = begun(shadow)
    Progress(shadow, Session("that run", run_id_of(shadow))).claim()
    with pytest.raises(RebuildError, match="Another rebuild has taken over"):
        progress.note({PART: "10"})
    shadow.flushdb()
    with pytest.raises(RebuildError, match="Another rebuild has taken over"):
        progress.note({PART: "10"})
    assert shadow.dbsize() == 0


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("take", [Progress.claim, lambda late: late.begin(Plan({}, {}, {}))])
def test_a_run_that_was_paused_before_it_began_takes_nothing_from_the_next(spaces, before, take):
    _, shadow, _ = spaces
    shadow.flushdb()
    if before:
        begun(shadow, "killed run")
    late = Progress(shadow, Session(OWNER, run_id_of(shadow)))
    late.read()
    following = begun(shadow, "next run")
    following.note({PART: "10"})
    found = following.read()
    with pytest.raises(RebuildError, match="Another rebuild has taken over"):
        take(late)
    assert following.read() == found


def test_a_note_whose_reply_was_lost_counts_once(spaces):
    _, shadow, _ = spaces
    progress = begun(shadow)
    progress.note({PART: "10"}, Counts(records=10))
    progress.reached = {}
    progress.note({PART: "10"}, Counts(records=10))
    assert Standing(progress.read()).counts == Counts(records=10)


def test_a_failover_to_a_lagging_replica_is_noticed_and_the_rest_loaded_again(
    spaces, tmp_path_factory
):
    live, shadow, whole = spaces
    for redis in spaces:
        redis.flushdb()
    source = Rows(60, 10)
    progress = begun(whole)
    run(source, Load(live, whole, POLICIES, OWNER), progress)

    port = live.connection_pool.connection_kwargs["port"]
    replica_of = ("--replicaof", "127.0.0.1", str(port))
    with own_redis(tmp_path_factory.mktemp("replica"), PORT + 2, *replica_of) as url:
        replica = Redis.from_url(url_of(url, SHADOW))
        progress = begun(shadow)
        load = Load(live, shadow, POLICIES, OWNER)
        portions = source.portions(PART, None, "30")
        first = next(portions)
        progress.note(first.positions, load.take(first))
        eventually(lambda: replica.hget(REBUILD_KEY, f"at:{PART}") == b"10")
        replica.execute_command("REPLICAOF", "NO", "ONE")
        second, third = portions
        progress.note(second.positions, load.take(second))

        # The clients reach the replica from now on: it has the first portion only.
        over = Progress(replica, Session(OWNER, run_id_of(shadow)))
        over.reached = progress.reached
        with pytest.raises(RebuildError, match="started again or has failed over"):
            over.note(third.positions, Load(live, replica, POLICIES, OWNER).take(third))
        assert Standing(over.read()).positions == {PART: "10"}

        again = Progress(replica, Session("next run", run_id_of(replica)))
        assert again.claim().left == [PART]
        run(source, Load(live, replica, POLICIES, "next run"), again)
        # The third portion was there before the second, so the projections' history is another one.
        assert numbers(replica) == numbers(whole)
        replica.close()
