"""An availability worker that ends (kill -9, or an exception) where it tells of one SKU.

python -m tests.e2e.crashing_worker kill|raise|told|load SKU

`kill` and `raise` come between the write to Redis and the publish; `told` is a kill once Kafka has
acknowledged, before anybody knows of that. `load` is a kill after the first rows that are loaded
into a Redis that has lost everything, whatever their SKU.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Sequence

import stream.worker
from inventory.messages import OutgoingMessage
from inventory.settings import load_settings
from inventory.topics import ALERTS, DEAD_LETTER
from projections.ports import Changes, Checkpoint
from projections.writer import ProjectionWriter
from stream.publisher import KafkaPublisher
from stream.worker import AGENTS, run_worker


class CrashingPublisher(KafkaPublisher):
    """Publishes everything but batches that hold the SKU: there the process ends, or raises."""

    def __init__(self, bootstrap: str, client_id: str, how: str, sku: bytes) -> None:
        super().__init__(bootstrap, client_id, (DEAD_LETTER, ALERTS))
        self._how = how
        self._sku = sku

    async def publish(self, messages: Sequence[OutgoingMessage]) -> Awaitable[frozenset[str]]:
        if any(message.key == self._sku for message in messages):
            if self._how == "raise":
                raise RuntimeError("raised on purpose")
            if self._how == "told":
                await (await super().publish(messages))
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().publish(messages)


class CrashingWriter(ProjectionWriter):
    """Loads some rows, and that is the end."""

    async def load(self, changes: Changes, checkpoint: Checkpoint) -> None:
        await super().load(changes, checkpoint)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    settings = load_settings()
    how, sku = sys.argv[1:]
    if how == "load":
        stream.worker.ProjectionWriter = CrashingWriter  # type: ignore[misc]
    publisher = CrashingPublisher(settings.kafka_bootstrap, "crashing", how, sku.encode())
    asyncio.run(run_worker("availability", settings, AGENTS["availability"], publisher))
