"""A worker that is started while Kafka is away waits for it, rather than to end again and again."""

import asyncio

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from inventory.errors import Outage
from stream.retry import until_it_works

_ANSWER_SECONDS = 2.0


async def until_kafka_answers(bootstrap: str, client_id: str) -> None:
    """Return once a broker answers, however long that takes."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "client.id": client_id, "log_level": 0})

    async def ask() -> None:
        try:
            await asyncio.to_thread(admin.list_topics, timeout=_ANSWER_SECONDS)
        except KafkaException as exc:
            raise Outage(
                f"Kafka at {bootstrap} does not answer ({exc.args[0].str()}); it is tried again. "
                "Look at its log if this lasts."
            ) from exc

    await until_it_works(ask)
