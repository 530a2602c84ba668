"""A rebuild that is killed at any portion goes on, and ends like one that was not."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis

from projections.ports import SkuChanges
from projections.space import Space
from rebuild.crew import do_part
from rebuild.mend import Load, Mend
from rebuild.portion import Portion
from rebuild.progress import Counts, Progress, Standing
from rebuild.shadow_space import url_of
from tests.integration.own_redis import own_redis
from tests.projector_contract import POLICIES, level

pytestmark = pytest.mark.integration

PORT = 31572
PART = "topic/0"
LIVE, SHADOW, WHOLE = 0, 1, 2
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
            return Load(live, space, POLICIES)
        return Mend(space, POLICIES, patience=0)

    source = Rows(records, portion)
    for space, deaths in ((whole, []), (shadow, kills)):
        progress = Progress(space)
        progress.begin({"mode": task}, {PART: str(records)})
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
    progress = Progress(shadow)
    progress.begin({}, {PART: "30"})
    looks = iter([False, True])
    mend = Mend(shadow, POLICIES, patience=0)
    do_part(Rows(30, 10), mend, progress, (PART, None, "30"), lambda: next(looks))
    standing = Standing(progress.read())
    assert (standing.left, standing.positions) == ([PART], {PART: "20"})
    assert standing.counts == Counts(records=20, skus=20, mended=20)
