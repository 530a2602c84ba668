"""The tree of exceptions that the kit raises on purpose."""

from collections.abc import Sequence


class ClientError(Exception):
    """Base of all. Its text is one clear sentence: what, where, what to do."""


class ConfigurationError(ClientError):
    """A subscription was asked for in a way that cannot work."""


class Unavailable(ClientError):  # noqa: N818 - a state of the world, not a fault of the caller
    """A server does not answer or takes no work; the same call can succeed later."""


class Refused(ClientError):  # noqa: N818 - named as what it says
    """Kafka refuses the subscription: no such topic, or no right to read it."""


class InvalidMessage(ClientError):  # noqa: N818 - a message's verdict
    """A message that does not follow the contract (poison).

    Attributes:
        reason: what is wrong with it.
        topic, partition, offset: where it is.
        key, value: its bytes as they came, None where there are none.
        headers: as they came, in their order.
    """

    def __init__(
        self,
        reason: str,
        *,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        super().__init__(
            f"Message {offset} of {topic}, partition {partition}, does not follow the contract "
            f"({reason}); give the subscription an on_poison callback to go past it."
        )
        self.reason = reason
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.key = key
        self.value = value
        self.headers = tuple(headers)
