"""Explanations on real servers: what agrees, what differs, and the last message of a key."""

import asyncio
import time
from contextlib import closing
from uuid import uuid4

import orjson
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from audit.agreement import Agreement
from audit.explain import Explainer
from audit.explanation import Answer
from audit.last_message import KeyReader
from audit.topics import open_consumer
from inventory.errors import AuditError, InvalidEvent, NotFound, Outage
from inventory.messages import availability_messages
from inventory.names import stock_key
from projections.ports import SkuChanges
from projections.writer import ProjectionWriter
from stockwire_client.names import availability_key
from tests.integration.pipeline_by_hand import Pipeline
from tests.polling import eventually

pytestmark = pytest.mark.integration

PARTITIONS = 3


@pytest.fixture(scope="module")
def pipeline(database, settings):
    made = Pipeline(database, settings)
    admin = AdminClient({"bootstrap.servers": made.bootstrap})
    new = [NewTopic(name, PARTITIONS, 1) for name in made.topics.values()]
    for future in admin.create_topics(new, operation_timeout=30).values():
        future.result()
    made.sql("DELETE FROM inventory.channel")
    kinds = {"web": "availability", "app": "availability", "wms": "level", "erp": "movement"}
    for name, topic in made.topics.items():
        made.sql(
            "INSERT INTO inventory.channel (name, kind, topic, warehouses) VALUES (%s, %s, %s, %s)",
            [name, kinds[name], topic, ["W2"] if name == "app" else None],
        )
    with Redis.from_url(made.redis_url) as client:
        client.flushdb()
        yield made
        client.flushdb()
    for future in admin.delete_topics([*made.topics.values()], operation_timeout=30).values():
        future.result()


@pytest.fixture
def explainer(pipeline):
    with Explainer.open(pipeline.conninfo, pipeline.redis_url, pipeline.bootstrap) as opened:
        yield opened


@pytest.fixture
def store(pipeline):
    with Redis.from_url(pipeline.redis_url) as client:
        yield client


@pytest.fixture
def sku():
    return f"EXPLAIN {{{uuid4().hex[:8]}}}|%7B"


def aged(pipeline, sku):
    """Until the last change is so old that a difference is no longer in flight."""
    moment = max(row.updated_us for row in pipeline.facts(sku).rows.values())
    eventually(lambda: pipeline.facts(sku).now_us - moment >= 1_000_000)


def test_all_places_agree_and_say_where_they_stand(pipeline, explainer, sku):
    pipeline.stock(sku, "W1", 12, reserved=2, safety_stock=1, reason="receipt", reference="PO-1")
    pipeline.stock(sku, "W2", 5)
    told = pipeline.tell_availability(sku)
    found = explainer.explain(sku, "web")
    assert (found.account.answer, found.account.promised.available) == (Answer.SOLD, 14)
    assert found.agreement is Agreement.AGREES
    assert found.redis.version == found.topic.version == told.version
    assert found.topic.offset is not None
    assert [line.warehouse for line in found.account.warehouses] == ["W1", "W2"]
    assert found.account.warehouses[0].row.row.reference == "PO-1"
    assert found.account.last_change.what == "stock in W2"
    assert [each.agreement for each in explainer.explain_all(sku)] == [Agreement.AGREES] * 2


def test_a_sku_that_is_only_elsewhere_is_not_listed(pipeline, explainer, sku):
    pipeline.stock(sku, "W1")
    pipeline.tell_availability(sku)
    found = explainer.explain(sku, "app")
    assert (found.account.answer, found.account.elsewhere) == (Answer.NOT_LISTED, ("W1",))
    assert found.agreement is Agreement.AGREES
    pipeline.raw("app", sku, b'{"available": 3}')
    aged(pipeline, sku)
    assert explainer.explain(sku, "app").topic.agreement is Agreement.DIFFERS


def test_policy_and_override_take_part(pipeline, explainer, sku):
    pipeline.stock(sku, "W2", 20)
    pipeline.sql(
        "INSERT INTO inventory.channel_sku (channel, sku, ring_fence, buffer, max_per_order)"
        " VALUES ('app', %s, 8, 2, 3)",
        [sku],
    )
    pipeline.tell_availability(sku)
    web, app = (explainer.explain(sku, name) for name in ("web", "app"))
    assert (web.account.promised.available, app.account.promised.available) == (12, 18)
    assert app.account.promised.order_limit == 3
    assert (app.agreement, web.agreement) == (Agreement.AGREES, Agreement.AGREES)
    assert app.account.override.version > 0
    assert app.account.override.committed_us > 0
    assert web.account.warehouses[0].held == {"app": 8}
    assert web.account.last_change.what == "override of app for this SKU"
    pipeline.sql("UPDATE inventory.channel_sku SET blocked = true WHERE sku = %s", [sku])
    pipeline.tell_availability(sku)
    blocked = explainer.explain(sku, "app")
    assert blocked.account.answer is Answer.SKU_BLOCKED
    assert blocked.agreement is Agreement.AGREES
    pipeline.sql("UPDATE inventory.channel SET buffer = buffer WHERE name = 'app'")
    change = explainer.explain(sku, "app").account.last_change
    assert change.what == "policy of app"


def test_a_difference_is_in_flight_for_a_second_and_then_real(pipeline, explainer, sku):
    pipeline.stock(sku)
    pipeline.tell_availability(sku)
    pipeline.sql("UPDATE inventory.stock SET on_hand = 4 WHERE sku = %s", [sku])
    assert explainer.explain(sku, "web").agreement is Agreement.IN_FLIGHT
    aged(pipeline, sku)
    found = explainer.explain(sku, "web")
    assert found.redis.agreement is found.topic.agreement is Agreement.DIFFERS
    assert ("available", 4, 10) in found.redis.mismatches
    pipeline.write_redis(sku)
    found = explainer.explain(sku, "web")
    assert (found.redis.agreement, found.topic.agreement) == (Agreement.AGREES, Agreement.DIFFERS)


def test_a_deleted_sku_is_not_listed_and_its_deletion_is_the_last_change(pipeline, explainer, sku):
    pipeline.stock(sku)
    pipeline.tell_availability(sku)
    facts = pipeline.facts(sku)
    pipeline.sql("DELETE FROM inventory.stock WHERE sku = %s", [sku])
    gone = facts.levels["W1"]._replace(
        deleted=True, version=facts.levels["W1"].version + 1, committed_us=facts.now_us
    )

    async def delete():
        async with AsyncRedis.from_url(pipeline.redis_url) as client:
            changes = {sku: SkuChanges({"W1": gone})}
            return await ProjectionWriter(client).write(changes, facts.sellers, {})

    projection = asyncio.run(delete()).projections[0]
    pipeline.publish(*availability_messages(projection, [("web", pipeline.topics["web"])]))
    found = explainer.explain(sku, "web")
    assert found.account.answer is Answer.NOT_LISTED
    assert found.account.last_change.what == "stock in W1 deleted"
    assert found.agreement is Agreement.AGREES
    assert (found.topic.reason, found.topic.offset is not None) == ("a tombstone", True)


def test_levels_and_movements_are_explained_row_by_row(pipeline, explainer, sku):
    pipeline.stock(sku, "W1", 12, reserved=2)
    pipeline.stock(sku, "W2", 5)
    pipeline.tell_rows(sku)
    for channel in ("wms", "erp"):
        found = explainer.explain(sku, channel)
        assert found.agreement is Agreement.AGREES
        assert [row.warehouse for row in found.rows] == ["W1", "W2"]
        assert [row.told.fields["on_hand"] for row in found.rows] == [12, 5]
    pipeline.sql(
        "UPDATE inventory.stock SET on_hand = 4 WHERE sku = %s AND warehouse = 'W2'", [sku]
    )
    aged(pipeline, sku)
    for channel in ("wms", "erp"):
        first, second = explainer.explain(sku, channel).rows
        assert first.told.agreement is Agreement.AGREES
        assert second.told.agreement is Agreement.DIFFERS
        assert ("on_hand", 4, 5) in second.told.mismatches


def test_who_does_not_exist_is_answered_in_a_sentence(pipeline, explainer, sku):
    with pytest.raises(NotFound, match="There is no SKU"):
        explainer.explain(sku, "web")
    with pytest.raises(NotFound, match="There is no SKU"):
        explainer.explain_all(sku)
    pipeline.stock(sku)
    with pytest.raises(NotFound, match="no channel 'shop'; the channels are app, erp, web, wms"):
        explainer.explain(sku, "shop")
    with pytest.raises(InvalidEvent, match="201 characters"):
        explainer.explain("x" * 201, "web")


def test_what_no_worker_has_written_is_said(pipeline, explainer, store, sku):
    pipeline.stock(sku)
    pipeline.tell_availability(sku)
    store.hset(availability_key(sku), "web", "many")
    pipeline.raw("web", sku, b"nonsense")
    found = explainer.explain(sku, "web")
    assert "no worker has written this" in found.redis.reason
    assert "no worker has written this" in found.topic.reason
    store.hset(stock_key(sku), "W1", "nonsense")
    assert explainer.explain(sku, "web").redis.agreement is Agreement.UNKNOWN


def test_a_store_that_is_away_is_part_of_the_explanation(pipeline, sku):
    pipeline.stock(sku)
    pipeline.tell_availability(sku)
    with Explainer.open(
        pipeline.conninfo, "redis://127.0.0.1:1/0", pipeline.bootstrap
    ) as explainer:
        found = explainer.explain(sku, "web")
    assert (found.redis.agreement, found.topic.agreement) == (
        Agreement.UNKNOWN,
        Agreement.AGREES,
    )
    assert found.account.promised.available == 10
    away = "postgresql://stockwire_app@127.0.0.1:1/stockwire"
    with (
        Explainer.open(away, pipeline.redis_url, pipeline.bootstrap) as explainer,
        pytest.raises(Outage),
    ):
        explainer.explain(sku, "web")


def test_a_topic_that_is_gone_is_part_of_the_explanation(pipeline, explainer, sku):
    pipeline.stock(sku)
    pipeline.sql(
        "INSERT INTO inventory.channel (name, kind, topic)"
        " VALUES ('lost', 'availability', 'explain.lost'), ('lost-too', 'movement', 'explain.no')"
    )
    try:
        found = explainer.explain(sku, "lost")
        assert found.topic.agreement is Agreement.UNKNOWN
        assert "no topic explain.lost" in found.topic.reason
        (row,) = explainer.explain(sku, "lost-too").rows
        assert "no topic explain.no" in row.told.reason
    finally:
        pipeline.sql("DELETE FROM inventory.channel WHERE name IN ('lost', 'lost-too')")


@pytest.fixture
def key_reader(pipeline):
    with closing(open_consumer(pipeline.bootstrap)) as consumer:

        def read(name, key, since_us=None):
            return KeyReader(consumer, pipeline.topics[name], key.encode(), since_us)

        yield read


def test_the_last_message_is_found_whatever_the_time_says(pipeline, key_reader, sku):
    for number in range(50):
        pipeline.producer.produce(pipeline.topics["web"], b"other", f"{sku}-{number}".encode())
    pipeline.raw("web", sku, b"first")
    pipeline.raw("web", sku, b"last")
    for number in range(50):
        pipeline.producer.produce(pipeline.topics["web"], b"other", f"{sku}-{number}".encode())
    assert pipeline.producer.flush(30) == 0
    now = time.time_ns() // 1000
    for since_us in (None, now, now + 3_600_000_000, 0):
        found = key_reader("web", sku, since_us).last()
        assert found is not None, since_us
        assert found.value == b"last"
    assert key_reader("web", f"{sku}-none").last() is None
    for number in range(50):
        assert key_reader("web", f"{sku}-{number}").last() is not None, "each key has a partition"


def test_a_movement_is_found_by_its_version_and_its_warehouse(pipeline, key_reader, sku):
    for warehouse, version in (("W1", 2), ("W2", 4), ("W1", 6), ("W1", 8)):
        value = orjson.dumps({"warehouse": warehouse, "version": version})
        pipeline.raw("erp", sku, value)
    pipeline.raw("erp", sku, b"nonsense")
    now = time.time_ns() // 1000

    def versions(since_us, **wanted):
        found = key_reader("erp", sku, since_us).last_of_each(wanted)
        return {code: orjson.loads(each.value)["version"] for code, each in found.items()}

    for since_us in (None, now, now + 3_600_000_000):
        assert versions(since_us, W1=6, W2=4) == {"W1": 6, "W2": 4}
        assert versions(since_us, W1=10, W3=2) == {"W1": 8}


def test_there_is_no_topic(pipeline):
    with (
        closing(open_consumer(pipeline.bootstrap)) as consumer,
        pytest.raises(AuditError, match=r"no topic explain\.none"),
    ):
        KeyReader(consumer, "explain.none", b"x", None)
