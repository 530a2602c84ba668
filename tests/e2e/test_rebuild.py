"""Rebuilds of the projection on the running stack, while it sells."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

import pytest
from redis import Redis

from audit.topics import open_consumer
from bench.load import seed_catalogue
from inventory.errors import RebuildError
from inventory.names import stock_key
from projections.reader import AvailabilityReader
from rebuild import topics
from rebuild.crew import From
from rebuild.options import Options, Stage
from rebuild.progress import OWN_KEYS, REBUILD_KEY
from rebuild.run import Rebuild
from rebuild.session import LOCK_KEY
from rebuild.shadow import Shadow
from rebuild.shadow_space import ShadowSpace, url_of
from rebuild.steps import Steps
from rebuild.topics import Following, bounds, place_of, read_upto
from stockwire_client.names import availability_key, channel_topic
from tests.conftest import TEST_ENVIRONMENT
from tests.e2e.selling import SKUS, WAREHOUSES, assert_no_drift, selling
from tests.polling import eventually

pytestmark = pytest.mark.e2e

SHADOW = 1


@pytest.fixture(scope="module", autouse=True)
def catalogue(nobody_heals, settings):
    """What `selling` sells."""
    seed_catalogue(settings.conninfo(), SKUS, WAREHOUSES)
    assert_no_drift(settings)


@pytest.fixture
def redis(stack, settings) -> Iterator[Redis]:
    with Redis.from_url(str(settings.redis_url)) as client:
        yield client


@pytest.fixture
def shadow(stack, settings) -> Iterator[Redis]:
    """The database that a shadow is filled in; other tests leave theirs there."""
    with Redis.from_url(url_of(str(settings.redis_url), SHADOW)) as client:
        client.flushdb()
        yield client


def rebuild(settings, **options):
    said: list[str] = []
    shown: list[Stage] = []
    result = Rebuild(settings, Options(**options), said.append, shown.append).run()
    print(result, said)
    assert all(stage.whole is not None for stage in shown), "a bar and an estimate at each step"
    return result


def listed(settings, redis, count=40):
    """Some SKUs that web lists."""
    keys = redis.scan_iter(match="availability:{*}", count=5_000)
    skus = sorted(key.decode()[len("availability:{") : -1] for key in keys)
    found = [sku for sku in skus if redis.hexists(availability_key(sku), "web")]
    assert len(found) > count
    return found[:count]


def falsify(redis, skus):
    """Three kinds of damage, in turns; how many SKUs have each."""
    for number, sku in enumerate(skus):
        match number % 4:
            case 0:
                redis.delete(stock_key(sku), availability_key(sku))
            case 1:
                redis.hset(availability_key(sku), "web", 99_999)
            case 2:
                redis.delete(stock_key(sku))
            case 3:
                redis.delete(availability_key(sku))


@pytest.mark.parametrize("source", From)
def test_what_is_wrong_is_right_after_a_rebuild_in_place(settings, redis, source):
    with selling(settings, seed=71):
        skus = eventually(lambda: listed(settings, redis))
        falsify(redis, skus)
        result = rebuild(settings, source=source)
        # What sells meanwhile, the workers write anew themselves.
        assert result.counts.mended + result.counts.readers > 0
        assert not redis.exists(REBUILD_KEY, LOCK_KEY)
    assert_no_drift(settings)


def test_nothing_is_written_where_nothing_is_wrong(settings, redis):
    with selling(settings, seed=72):
        pass
    # What no audit looks at, such as the time of a falsified row, is made good first.
    rebuild(settings)
    assert_no_drift(settings)
    before = {key: redis.dump(key) for key in redis.scan_iter(match="*{*}", count=5_000)}
    result = rebuild(settings)
    assert (result.counts.mended, result.counts.readers, result.told) == (0, 0, [])
    assert result.counts.skus > 0
    assert {key: redis.dump(key) for key in redis.scan_iter(match="*{*}", count=5_000)} == before


@contextmanager
def watching(settings, skus):
    """Read these SKUs all the time; what no reader may see is collected."""
    seen: list[str] = []
    looks = [0]
    stop = threading.Event()

    def watch():
        last: dict[str, int] = {}
        with AvailabilityReader.from_url(str(settings.redis_url)) as reader:
            while not stop.is_set():
                for sku, found in reader.get_many(skus, "web").items():
                    if found is None:
                        seen.append(f"{sku} was missing")
                    elif found.version < last.get(sku, 0):
                        seen.append(f"{sku} went back from {last[sku]} to {found.version}")
                    else:
                        last[sku] = found.version
                looks[0] += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()
    assert looks[0] > 10


def assert_versions_only_rise(followed, skus):
    assert followed.drain()
    keys = {sku.encode() for sku in skus}
    last: dict[bytes | None, int] = {}
    for message in followed.seen:
        if message.key in keys and message.value is not None:
            version = message.json["version"]
            assert version >= last.get(message.key, 0), message
            last[message.key] = version
    assert last


@pytest.mark.parametrize("source", From)
def test_readers_are_switched_to_a_shadow_without_noticing(settings, redis, shadow, tail, source):
    channels = [tail(channel_topic(name)) for name in ("web", "app")]
    with selling(settings, seed=73):
        skus = eventually(lambda: listed(settings, redis, 200))
        broken, sound = skus[:20], skus[20:]
        falsify(redis, broken)
        ghost = stock_key(f"GHOST-{uuid4().hex}")
        redis.hset(ghost, mapping={"WH-1": "2 1 0 0 0 - 5 0", ":revision": "1"})
        with watching(settings, sound) as seen:
            result = rebuild(settings, source=source, shadow=True)
        assert seen == []
        assert result.switched
        assert result.wrong > 0
        assert not redis.exists(ghost)
    assert_no_drift(settings)
    for channel in channels:
        assert_versions_only_rise(channel, sound)
    eventually(lambda: shadow.dbsize() == 0)
    assert not redis.exists(REBUILD_KEY, LOCK_KEY)


def command(*options):
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from cli.main import run; run()",
            "projection",
            "rebuild",
            *options,
        ],
        env={**TEST_ENVIRONMENT, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has them, and this, born with Ctrl-C ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_rebuild_that_was_stopped_goes_on(settings, redis, shadow, number):
    with selling(settings, seed=74):
        first = command("--shadow")
        eventually(lambda: shadow.exists(REBUILD_KEY))
        first.send_signal(number)
        _, said = first.communicate(timeout=60)
        if number is signal.SIGINT:
            assert first.returncode == 130
            assert "goes on" in said
        eventually(lambda: not redis.exists(LOCK_KEY))
        assert shadow.exists(REBUILD_KEY)
        second = command("--shadow", "--json")
        told, said = second.communicate(timeout=120)
        assert second.returncode == 0, said
        assert "going on" in said
        result = json.loads(told)
        assert result["resumed"]
        assert result["switched"]
    assert_no_drift(settings)


def test_options_of_another_run_are_refused(settings, redis, shadow):
    first = command("--shadow")
    eventually(lambda: shadow.exists(REBUILD_KEY))
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    other = command("--shadow", "--from", "postgres")
    _, said = other.communicate(timeout=60)
    assert other.returncode == 1
    assert "--from kafka --shadow was interrupted" in said


class KilledError(Exception):
    """Takes the place of kill -9."""


@pytest.mark.parametrize("again", [{"shadow": True}, {}, {"shadow": True, "restart": True}])
def test_a_rebuild_that_was_killed_after_its_switch_is_finished_by_any_other(
    settings, redis, shadow, monkeypatch, again
):
    """Channels are told of what was wrong, and nothing is in the way of the next one."""
    real = Shadow.finish

    def dies(self):
        if self._steps.live.exists(REBUILD_KEY):
            raise KilledError
        return real(self)

    with selling(settings, seed=75):
        falsify(redis, eventually(lambda: listed(settings, redis)))
        monkeypatch.setattr(Shadow, "finish", dies)
        with pytest.raises(KilledError):
            rebuild(settings, shadow=True)
        monkeypatch.setattr(Shadow, "finish", real)
        told: list[str] = []
        tell = Steps.tell
        monkeypatch.setattr(Steps, "tell", lambda *args: (told.append("all"), tell(*args)))
        result = rebuild(settings, **again)
        assert told, "the first run has found what was wrong"
        assert result.resumed is (again == {"shadow": True})
    assert_no_drift(settings)
    eventually(lambda: shadow.dbsize() == 0)
    assert not redis.exists(*OWN_KEYS, LOCK_KEY)


def test_a_shadow_that_lost_rows_is_not_switched_to_and_is_gone_on_with(
    settings, redis, shadow, monkeypatch
):
    """As after a failover to a replica that lags; nothing of it may reach readers."""
    attempt = ShadowSpace.switch

    def loses(self, *args, **options):
        part = next(part for part in self.shadow.hkeys(REBUILD_KEY) if part.startswith(b"at:"))
        self.shadow.hset(REBUILD_KEY, part, 0)
        self.shadow.hdel(REBUILD_KEY, part.replace(b"at:", b"done:"))
        return attempt(self, *args, **options)

    monkeypatch.setattr(ShadowSpace, "switch", loses)
    with pytest.raises(RebuildError, match="goes on from what is there"):
        rebuild(settings, shadow=True)
    assert shadow.exists(REBUILD_KEY)
    monkeypatch.setattr(ShadowSpace, "switch", attempt)
    result = rebuild(settings, shadow=True)
    assert result.resumed
    assert result.switched
    assert_no_drift(settings)


def test_following_loses_no_record_of_a_part_that_was_held(settings, monkeypatch):
    """Against the broker: what was fetched ahead and let go comes again."""
    with selling(settings, seed=76):
        pass
    found = bounds(settings.kafka_bootstrap)
    part = max(found, key=lambda name: found[name][1] - found[name][0])
    low, end = found[part]
    whole = sum(len(records) for records, _ in read_all(settings, part, low, end))
    monkeypatch.setattr(topics, "_WAITING", 50)
    monkeypatch.setattr(topics, "RECORDS", 40)
    following = Following(settings.kafka_bootstrap, {name: low for name, (low, _) in found.items()})
    seen, most = 0, 0
    for applied in (*range(low, end, 35), end):

        def reached(applied=applied):
            nonlocal seen, most
            following.poll()
            most = max(most, following.waiting)
            portion = following.upto({part: applied})
            seen += portion.records
            return int(portion.positions[part]) >= applied

        eventually(reached)
    following.close()
    assert whole > 200
    assert seen == whole
    assert most <= 50 * len(found)


def read_all(settings, part, low, end):
    consumer = open_consumer(settings.kafka_bootstrap)
    try:
        yield from read_upto(consumer, place_of(part), low, end)
    finally:
        consumer.close()
