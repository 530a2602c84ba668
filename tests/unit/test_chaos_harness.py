"""What the chaos suite's own parts must do: a check that cannot fail checks nothing."""

import asyncio
import json

import pytest

from tests.chaos import proxy as proxy_module
from tests.chaos.fault import NoProof, Timeline
from tests.chaos.probe import choose
from tests.chaos.proxy import Proxy
from tests.chaos.registry import FAULTS
from tests.chaos.report import BEGIN, END, write
from tests.chaos.witness import TopicWitness


@pytest.fixture
def witness():
    made = TopicWitness.__new__(TopicWitness)
    made.remember()
    return made


def test_what_was_told_before_may_be_told_again(witness):
    for version in (2, 4, 6, 2, 4, 6, 8):
        witness.check("web", b"SKU", version, [version])
    assert (witness.told_again, witness.backwards) == (2, [])


def test_a_repeat_says_the_same(witness):
    for version, available in ((2, 7), (4, 6), (6, 5), (4, 7)):
        witness.check("web", b"SKU", version, [available])
    assert (witness.told_again, witness.backwards) == (0, ["web SKU: 6 then 4"])


def test_what_is_new_must_not_come_after_something_newer(witness):
    for version in (2, 6, 4, 5, 8, 7):
        witness.check("web", b"SKU", version)
    assert witness.backwards == ["web SKU: 6 then 4", "web SKU: 6 then 5", "web SKU: 8 then 7"]


def test_rows_that_a_snapshot_has_overtaken_are_apart(witness):
    for version in (2, 6, 4, 4):
        witness.check("wms", b"SKU", version)
    assert (witness.overtaken, witness.backwards) == (["wms SKU: 6 then 4"], [])
    assert witness.told_again == 1


def test_a_change_is_told_to_a_ledger_under_one_id(witness):
    told = {"sku": "SKU", "warehouse": "WH-1", "version": 2, "movement_id": "SKU|WH-1|2"}
    for each in (told, told, told | {"version": 3, "movement_id": "SKU|WH-1|3"}):
        witness.count(each)
    assert witness.twice == []
    witness.count(told | {"movement_id": "other"})
    assert witness.twice == ["SKU|WH-1|2 and other"]


def test_a_clock_begins_anew_only_where_redis_was_lost():
    restarted = {fault.name for fault in FAULTS if fault.clocks_restart}
    assert restarted == {"redis flushed", "redis empty", "redis behind"}


def test_keys_and_places_are_apart(witness):
    witness.check("web", b"SKU", 6)
    witness.check("web", b"OTHER", 4)
    witness.check("wms", b"SKU", 4)
    assert (witness.told_again, witness.backwards) == (0, [])


def test_a_fault_without_proof_fails():
    timeline = Timeline()
    timeline.prove(1, "it happened")
    with pytest.raises(NoProof, match="no evidence that it broke"):
        timeline.prove(None, "it broke")
    assert timeline.proof == ["it happened"]


def test_every_partition_has_its_probe():
    assert choose({"A": 0, "B": 0, "C": 1}.get, ["A", "B", "C", "D"], 2) == ["A", "C"]
    with pytest.raises(AssertionError, match=r"only partitions \[0\]"):
        choose({"A": 0}.get, ["A"], 2)


def test_faults_have_names_of_their_own_and_a_short_half():
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 30
    assert any(fault.short for fault in FAULTS)
    assert not all(fault.short for fault in FAULTS)


def test_the_table_goes_between_its_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nwas here\n{END}\nafter\n")
    skipped = {"what": "disk | full", "healed_by": "itself", "skipped": "no root"}
    write({"faults": {"disk": skipped}, "figures": {}, "machine": {"cores": "2"}}, page)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "was here" not in text
    assert "not run here: no root" in text
    assert "cores 2" in text
    write(json.loads(json.dumps({"faults": {}, "figures": {}, "machine": {}})), page)
    assert "no root" not in page.read_text()


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
