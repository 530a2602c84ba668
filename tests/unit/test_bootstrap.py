"""A worker is started while Kafka is away."""

import asyncio

from stream.bootstrap import until_kafka_answers
from stream.retry import OUTAGES
from tests.unit.test_health import free_port


def test_it_says_what_it_waits_for_and_can_be_told_to_stop():
    bootstrap = f"127.0.0.1:{free_port()}"

    async def scenario() -> str:
        waiting = asyncio.create_task(until_kafka_answers(bootstrap, "x"))
        async with asyncio.timeout(30):
            while OUTAGES.sentence() is None:
                await asyncio.sleep(0.01)
        said = OUTAGES.sentence()
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait({waiting}, timeout=10)
        assert waiting.cancelled()
        assert said is not None
        return said

    assert asyncio.run(scenario()).startswith(f"Kafka at {bootstrap} does not answer (")
    assert OUTAGES.sentence() is None
