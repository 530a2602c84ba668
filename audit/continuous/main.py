"""Composition root of the auditor's process: settings in, one patrol out."""

import signal
import threading
from contextlib import ExitStack

import structlog
from redis import Redis

from audit.continuous.follower import Follower
from audit.continuous.heal import Healer
from audit.continuous.inquiry import Inquiry
from audit.continuous.judge import Judge
from audit.continuous.pages import Pages
from audit.continuous.patrol import Patrol
from audit.continuous.pipeline import KafkaPipeline
from audit.continuous.redis_side import RedisSide
from audit.continuous.told import ToldStore
from audit.continuous.walk import Walk
from health import Health, serve
from inventory.settings import Settings

log = structlog.stdlib.get_logger(__name__)

_REDIS_SECONDS = 10.0


def patrol(settings: Settings, stopping: threading.Event) -> None:
    """Audit and heal until told to stop.

    Raises:
        StockwireError: the auditor cannot go on; the text says why.
    """
    health = Health("auditor", turn_limit=60.0)
    path = settings.stack_dir / "data" / "auditor" / "told.db"
    with ExitStack() as resources:
        resources.enter_context(serve(health, settings.health_port))
        redis = Redis.from_url(str(settings.redis_url), socket_timeout=_REDIS_SECONDS)
        resources.callback(redis.close)
        pages = Pages(settings.conninfo())
        resources.callback(pages.close)
        store = resources.enter_context(ToldStore(path))
        follower = resources.enter_context(Follower(settings.kafka_bootstrap, path))
        pipeline = KafkaPipeline(settings.kafka_bootstrap, redis, follower)
        resources.callback(pipeline.close)
        side = RedisSide(redis)
        inquiry = Inquiry(
            Judge(pages, side, store),
            Healer(settings.kafka_bootstrap, pages, redis, settings.partitions),
            pipeline,
            lambda policies: pipeline.unsettled(policies, settings.partitions),
        )
        walk = Walk(pages, side, store, follower)
        log.info("auditor started", file=str(path))
        Patrol(walk, inquiry, pipeline, follower, pages.policies, redis, health, stopping).run()


def stop_on_signals() -> threading.Event:
    """Set when the process is told to end."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping
