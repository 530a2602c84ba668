"""A topic's producer against a real Kafka: what it gives up, and when it goes on."""

import asyncio
import secrets
import uuid

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from inventory.errors import Outage
from inventory.messages import OutgoingMessage
from stream import lane
from stream.publisher import KafkaPublisher

pytestmark = pytest.mark.integration


@pytest.fixture
def admin(stack, settings):
    return AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0})


@pytest.fixture
def topics(admin):
    """Two topics of the test's own."""
    names = [f"lane-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for future in admin.create_topics([NewTopic(name, 2) for name in names]).values():
        future.result()
    yield names
    for future in admin.delete_topics(names).values():
        future.exception()


def configure(admin, topic, name, value):
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def message(topic, value=b"{}"):
    return OutgoingMessage(topic, b"SKU-1", value, [])


def scenario(settings, play, essential=()):
    """Play with a publisher that is looked after, as in a worker."""

    async def run():
        publisher = KafkaPublisher(settings.kafka_bootstrap, "test", essential)
        changed = asyncio.Event()

        async def on_change():
            changed.set()

        watching = asyncio.create_task(publisher.watch(on_change))
        try:
            async with asyncio.timeout(60):
                await play(publisher, changed)
        finally:
            watching.cancel()
            publisher.close()

    asyncio.run(run())


async def publish(publisher, *messages):
    return await (await publisher.publish(messages))


async def reopened(publisher, topic, changed):
    while not publisher.reopen(topic):
        changed.clear()
        await changed.wait()


def test_what_is_taken_is_acknowledged(settings, topics):
    async def play(publisher, _):
        assert await publish(publisher, *map(message, topics)) == frozenset()
        assert publisher.refusals() == {}

    scenario(settings, play)


def test_a_topic_that_does_not_exist_refuses_at_once_and_alone(settings, topics):
    async def play(publisher, _):
        assert await publish(publisher, message("nowhere"), message(topics[0])) == {"nowhere"}
        assert publisher.refusals()["nowhere"].reason == "there is no such topic"
        assert not publisher.reopen("nowhere"), "its pause is not over"

    scenario(settings, play)


def test_a_deleted_topic_is_given_up_and_taken_up_when_it_is_back(settings, topics, admin):
    async def play(publisher, changed):
        assert await publish(publisher, *map(message, topics)) == frozenset()
        admin.delete_topics(topics[:1])[topics[0]].result()
        while not await publish(publisher, *map(message, topics)):
            pass
        assert publisher.refusals().keys() == {topics[0]}
        admin.create_topics([NewTopic(topics[0], 2)])[topics[0]].result()
        await reopened(publisher, topics[0], changed)
        while await publish(publisher, message(topics[0])):
            await reopened(publisher, topics[0], changed)
        assert publisher.refusals() == {}

    scenario(settings, play)


def test_a_topic_that_takes_no_message_of_this_size_refuses_alone(settings, topics, admin):
    refusing, healthy = topics
    value = secrets.token_bytes(2000)

    async def play(publisher, changed):
        configure(admin, refusing, "max.message.bytes", "500")
        both = [message(refusing, value), message(healthy, value)]
        assert await publish(publisher, *both) == {refusing}
        assert await publish(publisher, *both) == {refusing}
        assert publisher.refusals()[refusing].dropped == 1, "the second was not even tried"
        configure(admin, refusing, "max.message.bytes", "5000")
        await reopened(publisher, refusing, changed)
        while await publish(publisher, *both):
            await reopened(publisher, refusing, changed)

    scenario(settings, play)


def test_the_pauses_grow_until_something_is_taken(settings, topics):
    async def play(publisher, changed):
        pauses = []
        for attempt in (1, 2):
            await publish(publisher, message("nowhere"))
            refusal = publisher.refusals()["nowhere"]
            assert refusal.attempts == attempt
            pauses.append(refusal.retry_at)
            await reopened(publisher, "nowhere", changed)
        assert pauses[1] - pauses[0] > lane.PAUSES[0] + lane.PAUSES[1] / 2

    scenario(settings, play)


def test_an_essential_topic_that_refuses_is_an_outage(settings, topics):
    async def play(publisher, _):
        with pytest.raises(Outage, match="there is no such topic"):
            await publish(publisher, message("nowhere"), message(topics[0]))

    scenario(settings, play, essential=("nowhere",))
