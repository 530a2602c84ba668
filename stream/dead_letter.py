"""What cannot be applied goes to the dead-letter topic with its reason, and nothing waits for it.

Header names are those of Kafka Connect (`org.apache.kafka.connect.runtime.errors`,
DeadLetterQueueReporter), so that tools made for Connect's dead letters read these too.
"""

from inventory.errors import InvalidEvent
from inventory.messages import OutgoingMessage
from inventory.topics import DEAD_LETTER
from stream.inbox import Record


def dead_letter(record: Record, reason: InvalidEvent, consumer: str) -> OutgoingMessage:
    """The original bytes and headers of a record, and why `consumer` could not apply it."""
    return OutgoingMessage(
        DEAD_LETTER,
        record.key,
        record.value,
        [
            *record.headers,
            ("__connect.errors.topic", record.topic.encode()),
            ("__connect.errors.partition", str(record.partition).encode()),
            ("__connect.errors.offset", str(record.offset).encode()),
            ("__connect.errors.connector.name", consumer.encode()),
            (
                "__connect.errors.exception.class.name",
                f"{type(reason).__module__}.{type(reason).__qualname__}".encode(),
            ),
            ("__connect.errors.exception.message", str(reason).encode()),
        ],
    )
