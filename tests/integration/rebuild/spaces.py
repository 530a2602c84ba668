"""A live key space and its shadow, in a Redis of the test's own."""

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from inventory.names import stock_key
from projections.checkpoint import CHECKPOINT_KEY
from projections.marks import MARKS_KEY
from projections.writer import ProjectionWriter
from rebuild.mend import Load, Mend
from rebuild.portion import Portion
from rebuild.progress import (
    REBUILD_KEY,
    SUSPECTS_KEY,
    Plan,
    Progress,
)
from rebuild.session import LOCK_KEY, Session, run_id_of
from rebuild.shadow_space import ShadowSpace, url_of
from stockwire_client.names import availability_key
from tests.projector_contract import (
    POLICIES,
)

PORT = 31571
#: The ordinary writer's space, the live one and its shadow.
ORDINARY, LIVE, SHADOW = 5, 0, 1
OWNER = "this run"
PARTS = {"stock/0": "5", "stock/1": "0"}


class World:
    """The three spaces, and the writer that workers use."""

    def __init__(self, runner, url):
        self.runner = runner
        self.url = url
        self.redis = {n: Redis.from_url(url_of(url, n)) for n in (ORDINARY, LIVE, SHADOW)}
        self.clients = {n: AsyncRedis.from_url(url_of(url, n)) for n in (ORDINARY, LIVE)}
        for client in self.redis.values():
            client.flushdb()

    def write(self, changes, space=ORDINARY):
        writer = ProjectionWriter(self.clients[space])
        return self.runner.run(writer.write(changes, POLICIES, {})).projections

    def load(self, changes):
        self.redis[SHADOW].hset(REBUILD_KEY, "owner", OWNER)
        load = Load(self.redis[LIVE], self.redis[SHADOW], POLICIES, OWNER)
        return load.take(Portion(changes, {}, len(changes)))

    def mend(self, changes):
        mend = Mend(self.redis[LIVE], POLICIES, patience=0.1)
        return mend.take(Portion(changes, {}, len(changes)))

    def hashes(self, space, sku):
        redis = self.redis[space]
        return redis.hgetall(stock_key(sku)), redis.hgetall(availability_key(sku))

    def suspects(self):
        return {sku.decode() for sku in self.redis[SHADOW].smembers(SUSPECTS_KEY)}


class Swap:
    """A live space and a shadow with a SKU each, ready to be switched."""

    def __init__(self, world: World):
        self.live, self.shadow = world.redis[LIVE], world.redis[SHADOW]
        self.spaces = ShadowSpace(world.url)
        self.session = Session(OWNER, run_id_of(self.live))
        self.live.hset("availability:{SKU}", "web", "live")
        self.shadow.hset("availability:{SKU}", "web", "shadow")
        self.live.hset(CHECKPOINT_KEY, mapping={"stock/0": 5, ":version": 12, ":begun": 1})
        self.live.hset(MARKS_KEY, "0", b'{"web":"abc"}')
        self.live.set("stockwire:other", "kept")
        self.live.set(b"somebody's \xff", "kept, too", px=60_000)
        self.live.set(LOCK_KEY, OWNER, px=60_000)
        progress = Progress(self.shadow, self.session)
        facts = {"policies": "these", "mode": "shadow"}
        progress.begin(Plan(PARTS, dict.fromkeys(PARTS, "0"), facts))
        progress.note({"stock/0": "5"})
        for part in PARTS:
            progress.note({}, done=part)
        progress.note({}, audited="1")

    def switch(
        self, offset="5", marks=b'{"web":"abc"}', partition=0, session=None, keep=False, keys=None
    ):
        return self.spaces.switch(
            session or self.session,
            self.spaces.kept_keys() if keys is None else keys,
            {partition: marks},
            {"stock/0": offset, "stock/1": "0"},
            keep=keep,
        )

    def assert_live_is_served(self):
        assert self.live.hget("availability:{SKU}", "web") == b"live"
        assert not self.live.exists(REBUILD_KEY)
