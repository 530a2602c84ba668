"""Messages that nobody should have sent."""

from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from inventory.groups import REPAIR
from inventory.topics import STOCK
from tests.chaos.fault import Timeline
from tests.chaos.world import Watched
from tests.polling import eventually

_CORRUPT = (
    (b"key", b"not json at all"),
    (b"key", b'{"op": "u"}'),
    (b'{"sku": "X"', b"\xff\xfe\x00"),
    (b"[]", b"[]"),
    (b"key", b'{"op": "c", "before": null, "after": {"sku": "X", "warehouse": ""}, "source": {}}'),
)
_AGENTS = 2
#: So many of each partition.
_OLD = 1_000
_SOLD = b'{"sku":"SKU-'


def corrupt(world: Watched, timeline: Timeline) -> None:
    """Five kinds of nonsense on every partition of the stock topic."""
    partitions = world.settings.partitions
    _send(world, timeline, [(key, value) for key, value in _CORRUPT], partitions)


def oversized(world: Watched, timeline: Timeline) -> None:
    """A message as large as the broker takes, on every partition; a larger one it refuses."""
    producer = _producer(world)
    refused = []
    producer.produce(STOCK, b"x" * 2_000_000, on_delivery=lambda error, _: refused.append(error))
    producer.flush(30)
    timeline.prove(refused and refused[0] is not None, f"the broker refused 2 MB ({refused[0]})")
    _send(world, timeline, [(b"key", b'{"op": "' + b"x" * 1_000_000 + b'"}')], 6)


def stale(world: Watched, timeline: Timeline) -> None:
    """Changes of long ago arrive again at the availability worker, as from a zombie's hands."""
    producer = _producer(world)
    only = [(REPAIR, b"availability")]
    failed: list[KafkaException] = []
    old = 0
    timeline.inject()
    for message in _oldest(world.settings.kafka_bootstrap, world.settings.partitions):
        producer.produce(
            STOCK,
            message.value(),
            message.key(),
            message.partition(),
            headers=only,
            on_delivery=lambda error, _: error is not None and failed.append(error),
        )
        old += 1
    assert producer.flush(30) == 0
    assert not failed
    timeline.heal()
    timeline.prove(old > 0, f"{old:,} old changes arrived a second time")


def _producer(world: Watched) -> Producer:
    """One that leaves it to the broker what is too large."""
    return Producer(
        {"bootstrap.servers": world.settings.kafka_bootstrap, "message.max.bytes": 4_000_000}
    )


def _oldest(bootstrap: str, partitions: int) -> Iterator[Message]:
    """The oldest changes of each partition to SKUs that are sold."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "chaos-old", "enable.auto.commit": False}
    )
    try:
        for number in range(partitions):
            low, _ = consumer.get_watermark_offsets(TopicPartition(STOCK, number), timeout=30)
            consumer.assign([TopicPartition(STOCK, number, low)])
            for message in consumer.consume(_OLD, timeout=30):
                if message.error() is None and (message.key() or b"").startswith(_SOLD):
                    yield message
    finally:
        consumer.close()


def _send(
    world: Watched, timeline: Timeline, kinds: list[tuple[bytes, bytes]], partitions: int
) -> None:
    producer = _producer(world)
    before = len(world.topics.dead_letters)
    failed: list[KafkaException] = []
    timeline.inject()
    for number in range(partitions):
        for key, value in kinds:
            producer.produce(
                STOCK,
                value,
                key,
                number,
                on_delivery=lambda error, _: error is not None and failed.append(error),
            )
    assert producer.flush(30) == 0
    assert not failed
    expected = _AGENTS * partitions * len(kinds)
    timeline.heal()
    eventually(lambda: len(world.topics.dead_letters) - before >= expected)
    found = len(world.topics.dead_letters) - before
    timeline.prove(found == expected, f"{found} dead letters, one for each message and agent")
