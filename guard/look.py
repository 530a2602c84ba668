"""Looks at everything at once, each part by itself: one that is down hides no other."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import psycopg

from connectors.apply import CONNECTOR_FILE, load_connector
from guard.facts import ConnectFacts, Facts, RedisFacts, Unread
from guard.facts_connect import open_connect, read_connect
from guard.facts_health import read_process
from guard.facts_kafka import read_kafka
from guard.facts_postgres import read_postgres
from guard.facts_redis import open_redis, read_redis
from guard.topics import wanted_topics
from inventory.groups import READS, group_id
from inventory.settings import Settings
from inventory.topics import ALL_TOPICS, TopicSpec


def look(settings: Settings, ports: Mapping[str, int]) -> Facts:
    """Read every part; takes some seconds, more when parts are down.

    Args:
        settings: where the parts are.
        ports: where each process answers for its health, by name.
    """
    config = load_connector(CONNECTOR_FILE)
    with ThreadPoolExecutor() as pool:
        # What was told is read before the database that it is compared with: both only rise.
        redis = pool.submit(_redis, settings)
        connect = pool.submit(_connect, settings, config["connector.class"])
        wanted = pool.submit(_topics, settings.conninfo())
        processes = {name: pool.submit(read_process, port) for name, port in ports.items()}
        told, offset = redis.result(), connect.result()
        database = pool.submit(read_postgres, settings.conninfo())
        topics = wanted.result()
        kafka = pool.submit(
            read_kafka,
            settings.kafka_bootstrap,
            [spec.name for spec in topics],
            {group_id(app): reads for app, reads in READS.items()},
        )
        return Facts(
            postgres=database.result(),
            connect=offset,
            kafka=kafka.result(),
            redis=told,
            processes={name: future.result() for name, future in processes.items()},
            config=config,
            topics=topics,
            partitions=settings.partitions,
        )


def _topics(conninfo: str) -> tuple[TopicSpec, ...]:
    try:
        return wanted_topics(conninfo)
    except psycopg.Error:
        # Postgres has a finding of its own.
        return ALL_TOPICS


def _redis(settings: Settings) -> RedisFacts | Unread:
    with open_redis(str(settings.redis_url)) as client:
        return read_redis(client)


def _connect(settings: Settings, plugin: str) -> ConnectFacts | Unread:
    with open_connect(str(settings.connect_url)) as client:
        return read_connect(client, plugin)
