"""The chaos suite's proxy does to one pair what it is told."""

import asyncio

import pytest

from tests.chaos import proxy as proxy_module
from tests.chaos.proxy import Proxy


@pytest.fixture
def echo(monkeypatch):
    """Run a coroutine with a proxy before a server that answers what it is told."""

    def run(work):
        async def main():
            seen = []

            async def answer(reader, writer):
                while data := await reader.read(100):
                    seen.append(data)
                    writer.write(data)
                    await writer.drain()
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            upstream = server.sockets[0].getsockname()[1]
            monkeypatch.setattr(proxy_module, "ROUTES", {"redis": (0, upstream)})
            proxy = Proxy()
            port = (await proxy.listen())["redis"]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await work(proxy, reader, writer, seen)
            finally:
                writer.transport.abort()
                await proxy.close()
                server.close()

        asyncio.run(main())

    return run


PAIR = {"client": "outside", "server": "redis"}


async def _say(reader, writer, text=b"hello"):
    writer.write(text)
    return await asyncio.wait_for(reader.read(100), 5)


def test_the_proxy_carries_both_ways(echo):
    async def work(proxy, reader, writer, seen):
        assert await _say(reader, writer) == b"hello"
        counted = proxy.obey({"do": "counters"})
        assert counted["outside>redis"]["connections"] == 1

    echo(work)


def test_latency_delays_and_is_counted(echo):
    async def work(proxy, reader, writer, seen):
        await _say(reader, writer)
        proxy.obey({"do": "rule", **PAIR, "kind": "latency", "value": 0.2})
        clock = asyncio.get_running_loop().time
        begun = clock()
        assert await _say(reader, writer) == b"hello"
        assert clock() - begun >= 0.4
        assert proxy.obey({"do": "counters"})["outside>redis"]["delayed"] == 2

    echo(work)


def test_a_blackhole_holds_and_lets_go(echo):
    async def work(proxy, reader, writer, seen):
        await _say(reader, writer)
        proxy.obey({"do": "rule", **PAIR, "kind": "blackhole"})
        writer.write(b"into the dark")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(100), 0.3)
        assert seen == [b"hello"]
        proxy.obey({"do": "clear"})
        assert await asyncio.wait_for(reader.read(100), 5) == b"into the dark"

    echo(work)


def test_a_reset_comes_after_the_request_and_before_the_reply(echo):
    async def work(proxy, reader, writer, seen):
        proxy.obey({"do": "rule", **PAIR, "kind": "reset", "value": 2})
        assert await _say(reader, writer) == b"hello"
        with pytest.raises(ConnectionResetError):
            await _say(reader, writer, b"carried out")
        assert seen == [b"hello", b"carried out"]
        assert proxy.obey({"do": "counters"})["outside>redis"]["resets"] == 1

    echo(work)


def test_a_rule_hits_its_own_pair_only(echo):
    async def work(proxy, reader, writer, seen):
        proxy.obey({"do": "rule", "client": "ledger", "server": "redis", "kind": "blackhole"})
        assert await _say(reader, writer) == b"hello"

    echo(work)
